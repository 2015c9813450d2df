"""
How far the data stores have applied one partition of the outputs, by their acknowledgements.

The latest acknowledgement in log order holds.  `erased` implies `hidden`, and a store that hides
less than it had erased has gone back in both: what was erased there may be in it again.
"""

from typing import NamedTuple

from streams.core.receipts import ERASED, FOLLOWED, HIDDEN, Offsets, Phase


class Ack(NamedTuple):
    """
    A store's word on one partition; *topic* is its index in `FOLLOWED`.

    at_ms: broker time stamp of the record; of a consumer group, when its offset was looked up.
    position: the record's own offset; -1 of a consumer group.
    """

    store: str
    topic: int
    partition: int
    phase: Phase
    offset: int
    at_ms: int
    position: int = -1


class Level(NamedTuple):
    """What a store has applied of one output: the next offset, and since when it has been so."""

    hidden: int = 0
    hidden_ms: int = 0
    erased: int = 0
    erased_ms: int = 0

    def offset(self, phase: Phase) -> int:
        """Return the next offset of *phase*."""
        return self.hidden if phase == HIDDEN else self.erased


NOTHING = Level()


class Levels:
    """The levels of all stores in one partition."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, int], Level] = {}

    def acknowledge(self, ack: Ack) -> Level:
        """Let *ack* hold; return what held before."""
        place = ack.store, ack.topic
        before = self._by_place.get(place, NOTHING)
        self._by_place[place] = after_ack(before, ack)
        return before

    def set(self, store: str, topic: int, level: Level) -> None:
        """Let *level* hold, as it was noted."""
        self._by_place[store, topic] = level

    def get(self, store: str, topic: int) -> Level:
        """Return what *store* has applied of output *topic*."""
        return self._by_place.get((store, topic), NOTHING)

    def offsets(self, store: str, phase: Phase) -> Offsets:
        """Return what *store* has applied of all outputs."""
        eligibility, users, content = (
            self.get(store, topic).offset(phase) for topic in range(len(FOLLOWED))
        )
        return eligibility, users, content

    def since_ms(self, store: str, phase: Phase, topics: tuple[int, ...]) -> int:
        """Return since when *store* has been there in all of *topics*."""
        levels = [self.get(store, topic) for topic in topics]
        return max(each.hidden_ms if phase == HIDDEN else each.erased_ms for each in levels)


def after_ack(level: Level, ack: Ack) -> Level:
    """Return what holds after *ack*."""
    hidden, hidden_ms, erased, erased_ms = level
    offset, at_ms = ack.offset, ack.at_ms
    if ack.phase == ERASED and offset != erased:
        erased, erased_ms = offset, at_ms
    if offset > hidden or (ack.phase == HIDDEN and offset != hidden):
        hidden, hidden_ms = offset, at_ms
    if erased > hidden:
        erased, erased_ms = hidden, at_ms
    return Level(hidden, hidden_ms, erased, erased_ms)
