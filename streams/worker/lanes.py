"""
Commits a cycle, in several transactions at a time where it is not small: each of some partitions.

librdkafka 2.16 sends a request for each partition it writes to (its issue 1700), and Kafka answers
those of one connection in turn: most of a large transaction's time.  Each lane has a producer, and
so a connection and a transaction, of its own.  What a partition writes depends on no other
partition's transaction.  At 2,000 events/s on two cores: p99 176 ms with all cycles in lanes and
389 with none (medians of five runs in turn), for a third more processor time; at full load a
quarter fewer events/s, so that there and for little one lane does it all.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from streams.settings import Settings
from streams.worker.folded import Folded
from streams.worker.names import LANES, lane_id
from streams.worker.transaction import Aborted, Publisher
from streams.worker.watchdog import Call

FEW_OUTPUTS: Final = 64  # of a cycle: in one transaction, which costs least;
MANY_OUTPUTS: Final = 1_000  # so are more than these: then a worker is busy, and folds meanwhile


class Lanes:
    """Publishers that work at the same time, for a worker that is *known_by* one name."""

    def __init__(self, settings: Settings, known_by: str) -> None:
        self._publishers = [
            Publisher(settings, lane_id(known_by, lane), known_by) for lane in range(LANES)
        ]
        self._threads = ThreadPoolExecutor(LANES - 1, "lane")  # one works in the caller's

    @property
    def call(self) -> Call | None:
        """A call to Kafka that is under way: of several the first lane's."""
        return next((call for each in self._publishers if (call := each.call) is not None), None)

    def start(self) -> None:
        """Get all producers ready."""
        self._at_once([each.start for each in self._publishers])

    def stop(self) -> None:
        """Let no call be tried again from now on."""
        for each in self._publishers:
            each.stop()

    def publish(self, cycle: list[Folded], group_metadata: object) -> int:
        """
        Commit *cycle*, all of a partition in one transaction, and bring its rows into the stores.

        Returns how many transactions that took.  Raises `Aborted`, with the parts of which nothing
        counts, and `Halt` when that cannot be known.
        """
        shares = {0: cycle}
        if FEW_OUTPUTS < sum(len(part.outputs) for part in cycle) <= MANY_OUTPUTS:
            shares = {}
            for part in cycle:
                shares.setdefault(part.partition.number % LANES, []).append(part)
        aborted = self._at_once(
            [
                partial(self._publishers[lane].publish, share, group_metadata)
                for lane, share in shares.items()
            ]
        )
        if aborted:
            raise Aborted(
                "; ".join(map(str, aborted)),
                fenced=any(each.fenced for each in aborted),
                parts=[part for each in aborted for part in each.parts],
                rolled_back=len(aborted),
                committed=len(shares) - len(aborted),
            )
        return len(shares)

    def _at_once(self, calls: list[Callable[[], object]]) -> list[Aborted]:
        """Make *calls*, the first one here; return what was aborted, and raise what else failed."""
        others = [self._threads.submit(call) for call in calls[1:]]
        failures = [_failure(calls[0]), *(each.exception() for each in others)]
        for failure in failures:
            if failure is not None and not isinstance(failure, Aborted):
                raise failure
        return [each for each in failures if isinstance(each, Aborted)]


def _failure(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except BaseException as failure:  # noqa: BLE001  (raised when all have ended)
        return failure
    return None
