"""How far the data stores are, by what they acknowledge: told by the reader's thread."""

from collections.abc import Callable

from streams.core.levels import Ack, Levels
from streams.core.receipts import Phase
from streams.worker.acknowledgements import Followed


class StoreLevels:
    """
    The levels of all stores in all partitions.  Implements `acknowledgements.Listener`.

    fail: told of an error after which nothing is read any more.
    """

    def __init__(self, partitions_n: int, fail: Callable[[BaseException], None]) -> None:
        self.known = False  # whether all there was at the start has been read
        self._levels = {number: Levels() for number in range(partitions_n)}
        self._fail = fail

    def offset(self, store: str, topic: int, number: int, phase: Phase) -> int:
        """Return the next offset of output *topic* (its index in `FOLLOWED`) for a store."""
        return self._levels[number].get(store, topic).offset(phase)

    def on_caught_up(self, acks: list[Ack]) -> None:
        """Take what has been acknowledged so far."""
        self.on_acks(acks, [])
        self.known = True

    def on_acks(self, accepted: list[Ack], refused: list[Ack]) -> None:  # noqa: ARG002
        """Take what is acknowledged; what is refused does not count."""
        for ack in accepted:
            self._levels[ack.partition].acknowledge(ack)

    def on_followed(self, assignment: int, followed: Followed) -> None:
        """No partition is asked for."""

    def on_failed(self, error: BaseException) -> None:
        """Pass a failure on."""
        self._fail(error)
