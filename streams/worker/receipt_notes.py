"""
What the receipts of a partition remember beside their rows: one row of the users changelog.

It is written with every change of a receipt, so that after a crash a store that has gone back
meanwhile is found out: its level of now lies below the one its receipts were completed by.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Self

import msgspec
from msgspec import Struct

from streams.core.levels import Level, Levels
from streams.core.receipts import ERASED, FOLLOWED, HIDDEN, NOWHERE, Offsets, Phase, reached
from streams.setting_values import Store as DataStore
from streams.state import rows
from streams.state.store import Store

PASSED_MAX: Final = 64  # levels remembered between two looks at the receipts
UNREACHABLE: Final[Offsets] = (2**63, 2**63, 2**63)


class Following(NamedTuple):
    """A store, the outputs it follows as indexes in `FOLLOWED`, and whether it tells of erasing."""

    name: str
    topics: tuple[int, ...]
    erases: bool

    @classmethod
    def of(cls, store: DataStore) -> Self:
        """Return what is followed of a configured store; a group's offsets tell of no files."""
        topics = tuple(sorted(FOLLOWED.index(topic) for topic in store.topics))
        return cls(store.name, topics, store.group is None)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What the store acknowledges."""
        return (HIDDEN, ERASED) if self.erases else (HIDDEN,)


class Cursor:
    """
    How far the receipts have been brought to where a store is in a phase.

    done: receipts up to this number have reached it.
    back, upto: those behind `back` up to `upto` are still to be re-opened where they are beyond
    *low*, as the store went back at *back_ms*; none where they are equal.
    awaits: the targets of the first one behind `done`; None for none, also of those that have
    reached it already.  Not noted.
    """

    def __init__(
        self, done: int, back: int, upto: int, back_ms: int = 0, low: Offsets = NOWHERE
    ) -> None:
        self.done = done
        self.back = back
        self.upto = upto
        self.back_ms = back_ms
        self.low = low
        self.awaits: Offsets | None = None
        self._passed: deque[tuple[Offsets, int]] = deque()

    def goes_back(self, number: int, upto: int, level: Offsets, at_ms: int) -> None:
        """The store has reached the receipts up to *number* only, of all up to *upto*."""
        if self.back < self.upto:
            low = (min(self.low[0], level[0]), min(self.low[1], level[1]))
            self.low = (*low, min(self.low[2], level[2]))
            self.back = min(self.back, number)
        else:
            self.low = level
            self.back = number
        self.upto = upto
        self.done = min(self.done, number)
        self.back_ms = at_ms
        self._passed.clear()

    def passes(self, level: Offsets, at_ms: int) -> None:
        """Remember that the store was at *level* by *at_ms*, for receipts not yet brought there."""
        if self.awaits is None:
            self._passed.clear()
        elif len(self._passed) == PASSED_MAX:
            self._passed[-1] = level, at_ms  # told too late rather than too early
        else:
            self._passed.append((level, at_ms))

    def passed_ms(self, targets: Offsets, topics: tuple[int, ...]) -> int | None:
        """Return when *targets* were reached; None if that is not remembered."""
        while self._passed and not reached(targets, self._passed[0][0], topics):
            self._passed.popleft()
        return self._passed[0][1] if self._passed else None

    def noted(self) -> tuple[int, int, int, int, Offsets]:
        """Return what is to be noted."""
        return self.done, self.back, self.upto, self.back_ms, self.low


class Note(Struct):
    """
    The row.

    floor: receipts up to this number have *floor_targets* in place of their own, as the outputs
    were made anew after them; None until all is published again.
    since_ms: acknowledgements from before are of other topics.
    heard_upto: the offset of `purge-acks` behind the last one that *levels* tell of.
    stores: topics and whether it erases, by name.
    levels: by store, then by topic's index.  cursors: by store, then by phase.
    """

    next_number: int = 1
    outputs: str = ""
    floor: int = 0
    floor_targets: Offsets | None = None
    since_ms: int = 0
    heard_upto: int = 0
    stores: dict[str, tuple[tuple[int, ...], bool]] = {}
    levels: dict[str, dict[int, Level]] = {}
    cursors: dict[str, dict[Phase, tuple[int, int, int, int, Offsets]]] = {}

    def following(self) -> dict[str, Following]:
        """Return the stores there were, by name."""
        return {name: Following(name, *found) for name, found in self.stores.items()}

    def cursor(self, store: str, phase: Phase) -> Cursor | None:
        """Return a cursor as it was noted."""
        found = self.cursors.get(store, {}).get(phase)
        return None if found is None else Cursor(*found)

    def noted_levels(self) -> Iterator[tuple[str, int, Level]]:
        """Yield the levels as they were noted: store, topic's index, level."""
        for store, by_topic in self.levels.items():
            for topic, level in by_topic.items():
                yield store, topic, level

    def encode(
        self,
        following: Mapping[str, Following],
        levels: Levels,
        cursors: Mapping[tuple[str, Phase], Cursor],
    ) -> bytes:
        """Return the row's bytes, of how it is now."""
        self.stores = {name: (each.topics, each.erases) for name, each in following.items()}
        self.levels = {
            name: {topic: levels.get(name, topic) for topic in each.topics}
            for name, each in following.items()
        }
        self.cursors = {name: {} for name in following}
        for (name, phase), each in cursors.items():
            self.cursors[name][phase] = each.noted()
        return rows.encode_text(msgspec.json.encode(self).decode())


def read_note(store: Store) -> Note:
    """Return the note in *store*; a new one where there is none."""
    data = store.get(rows.RECEIPTS_KEY)
    return Note() if data is None else msgspec.json.decode(rows.decode_text(data), type=Note)
