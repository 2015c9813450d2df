"""
What readers of uncommitted data have seen of aborted transactions, until it is answered.

Such a reader keeps a grant that was taken back for as long as nothing else is said of its key, and
nothing else need be said: the records that led to it may, read again in one batch with an
objection, lead to no change at all.  So what an aborted transaction said is kept here until a
committed record outranks it.  What is left when all inputs have been read again, and timers have
fired again and fan-outs have gone on, is answered in a later epoch: the user's decision,
permissions and items, as they stand.
Source: contract.md, "Topics": a reader of uncommitted data ends in the same state.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from streams.core.outputs import Header, Output
from streams.state import rows
from streams.state.store import Row, Store
from streams.worker.names import DECISIONS

logger = logging.getLogger(__name__)

QUIET_S: Final = 3.0  # without a record: whatever there is to be read again has been


class Said(NamedTuple):
    """What a record of an output says: of whom, and how it ranks among those of its key."""

    user_id: str
    epoch: int
    revision: int
    tombstone: bool

    def outranks(self, other: "Said") -> bool:
        """Whether a reader who has seen *other* ends with this one, whatever it remembers."""
        mine, theirs = (self.epoch, self.revision), (other.epoch, other.revision)
        return mine > theirs or (mine == theirs and self.tombstone >= other.tombstone)


Key = tuple[str, bytes]  # an output's name in the contract, and the record's key


def read(value: bytes | None, headers: Iterable[Header]) -> Said | None:
    """Return what a record of an output says; None where it is none of ours."""
    found = dict(headers)
    try:
        return Said(
            _text(found["ce_subject"]),
            int(_text(found["objections_epoch"])),
            int(_text(found.get("objections_revision", "0"))),
            value is None,
        )
    except (KeyError, ValueError):
        return None


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


class Unanswered:
    """
    The aborted records of one partition that no committed record has outranked.

    Those a worker before us has left are known by their users alone, from a row of the state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: dict[Key, Said] = {}
        self._left: dict[str, int] = {}  # users and epochs
        self._until: dict[str, int] = {}
        self._until_ms = 0
        self._moved_s = time.monotonic()
        self._settling = False
        self._noted: bool | None = False  # whether the state has the row; None: who knows
        data = store.get(rows.UNANSWERED_KEY)
        if data is not None:
            self._left = msgspec.json.decode(rows.decode_text(data), type=dict[str, int])
            self._noted = True

    def add(self, said: Mapping[Key, Said], until: Mapping[str, int], until_ms: int) -> None:
        """
        Keep what aborted records *said*.

        It is said again, as far as it is true, once the inputs are read up to *until*, and the
        timers that were due at *until_ms* have fired.
        """
        for key, each in said.items():
            known = self._said.get(key)
            if known is None or each.outranks(known):
                self._said[key] = each
        for topic, offset in until.items():
            self._until[topic] = max(offset, self._until.get(topic, 0))
        self._until_ms = max(until_ms, self._until_ms)
        self._moved_s = time.monotonic()
        if said:
            self._noted = None

    def aborted(self, outputs: Iterable[Output], until: Mapping[str, int], until_ms: int) -> None:
        """Keep what *outputs* of a transaction that was rolled back have said; see `add`."""
        self.add(dict(_read_all(outputs)), until, until_ms)

    def roll_back(self) -> None:
        """Forget what was noted or settled in cycles that are not committed."""
        self._settling = False
        self._noted = None

    def committed(self, outputs: Iterable[Output], *, settled: bool) -> None:
        """Let go of what *outputs* outrank; *settled*: of all, answered anew with them."""
        if settled:
            self._settling = False
            self._said.clear()
            self._left.clear()
            self._until.clear()
            self._until_ms = 0
        if self._said:
            for key, said in _read_all(outputs):
                known = self._said.get(key)
                if known is not None and said.outranks(known):
                    del self._said[key]

    def moved(self) -> None:
        """Note that records still come."""
        self._moved_s = time.monotonic()

    def is_due(self, positions: Mapping[str, int], *, held: bool = False) -> bool:
        """
        Whether something is left although all is committed that was to be said again.

        positions: those committed, as the store's timers and fan-outs are.
        held: these may stand still for days, so nobody waits for them.
        """
        if self._settling or not (self._said or self._left):
            return False
        reached = all(positions[topic] >= offset for topic, offset in self._until.items())
        if not reached and time.monotonic() - self._moved_s <= QUIET_S:
            return False
        return held or not (self._has_timers_due() or self._has_fanouts())

    def _has_timers_due(self) -> bool:
        first = next(iter(self._store.scan(rows.TIMER)), None)
        return first is not None and rows.timer_of(first[0])[0] <= self._until_ms

    def _has_fanouts(self) -> bool:
        """Whether items of the users are still being answered."""
        keys = [rows.job_key(user_id) for user_id in self._users()]
        return any(data is not None for data in self._store.get_many(keys))

    def settle(self) -> dict[str, int]:
        """Return the users to be answered anew, each in an epoch above the one given."""
        self._settling = True
        users = self._users()
        logger.warning("what aborted transactions said of %d users is answered anew", len(users))
        return users

    def has_work(self, positions: Mapping[str, int], *, held: bool = False) -> bool:
        """Whether there is something to answer, or nothing left and a row that says otherwise."""
        if not self._settling and self._noted and not (self._said or self._left):
            return True
        return self.is_due(positions, held=held)

    def notes(self, outputs: Iterable[Output]) -> list[Row]:
        """Return the row by which another worker would know what *outputs* leave, if it is new."""
        wanted = False
        if not self._settling and (self._said or self._left):
            answers = dict(_read_all(outputs))
            wanted = bool(self._left) or any(
                key not in answers or not answers[key].outranks(said)
                for key, said in self._said.items()
            )
        if wanted == self._noted:
            return []
        self._noted = wanted
        if not wanted:
            return [(rows.UNANSWERED_KEY, None)]
        text = msgspec.json.encode(self._users()).decode()
        return [(rows.UNANSWERED_KEY, rows.encode_text(text))]

    def _users(self) -> dict[str, int]:
        users = dict(self._left)
        for said in self._said.values():
            users[said.user_id] = max(said.epoch, users.get(said.user_id, 0))
        return users


def _read_all(outputs: Iterable[Output]) -> Iterable[tuple[Key, Said]]:
    """Yield keys and what is said of them, the last word on each behind those before."""
    for output in outputs:
        if output.topic in DECISIONS and output.key is not None:
            said = read(output.value, output.headers)
            if said is not None:
                yield (output.topic, output.key), said
