"""
What stands in the topics against what stands in the store.  Pure.

A verdict counts where the record behind it lies below what the store had promised *before* it was
read, while the topics are known up to ends noted *after* it was read; see `streams.audit`.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from streams.audit.promise import Promise
from streams.audit.tables import Flags, Offsets, Records, Rows, among, hashes_in
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS
from streams.training.hashing import Hashes
from streams.training.table import ABSENT


class Kind(IntEnum):
    """
    What can be wrong with a key.  The first two must not be, and fail the audit.

    FORBIDDEN: an item is found, or an account stands, and the topics have purged it.
    UNKNOWN: the same, of one that the topics have never heard of, or no more.
    OUTDATED: an item is found with other fields, or under another account, than the topic's.
    MISSING: the topics allow it, and it is not found.
    MEMORY: the pair remembered is not that of the topic: lower, so that a replay could bring back
        what was purged, or higher, so that the next purge would be dropped.
    """

    FORBIDDEN = 0
    UNKNOWN = 1
    OUTDATED = 2
    MISSING = 3
    MEMORY = 4


FAILS: Final = (Kind.FORBIDDEN, Kind.UNKNOWN)
# A verdict: rows of the records, of the items found and of the fences; ABSENT where there is none.
VERDICT: Final = np.dtype(
    [
        *[("kind", "u1"), ("high", "<u8"), ("low", "<u8")],
        *[("record", "<i8"), ("item", "<i8"), ("fence", "<i8")],
    ]
)


class Held(NamedTuple):
    """What a store holds: rows of ITEM, and of FENCE by topic; *remembers*: whether it has any."""

    items: Rows
    fences: dict[str, Rows]
    remembers: bool


class Judgement(NamedTuple):
    """
    verdicts: by topic, rows of VERDICT.
    late: items found that must not be, by records beyond the promise.
    on_their_way: items not yet found, or found as they were, by records beyond the promise.
    allowed: items that the topics allow.
    """

    verdicts: dict[str, Rows]
    late: int
    on_their_way: int
    allowed: int


def judge(
    records: dict[str, Records],
    held: Held,
    promise: Promise,
    only: dict[str, Hashes] | None = None,
) -> Judgement:
    """Compare all keys, or *only* these, of which *held* has all that the store holds."""
    case = _Case(records, held, promise, only)
    shown = case.shown()
    absent = case.absent(shown.hit)
    verdicts = {
        TRAINING_CONTENT: np.concatenate([shown.verdicts, absent.verdicts]),
        TRAINING_USERS: case.accounts(),
    }
    # Of a key with another verdict the memory says nothing new.
    for topic, found in verdicts.items():
        memory = case.memory(topic)
        known = among(hashes_in(memory), hashes_in(found))
        verdicts[topic] = np.concatenate([found, memory[~known]])
    return Judgement(verdicts, shown.late, shown.waiting + absent.waiting, case.allowed)


class _Shown(NamedTuple):
    verdicts: Rows
    hit: Flags  # of the records of items: whether one is found
    late: int
    waiting: int


class _Absent(NamedTuple):
    verdicts: Rows
    waiting: int


class _Case:
    def __init__(
        self,
        records: dict[str, Records],
        held: Held,
        promise: Promise,
        only: dict[str, Hashes] | None,
    ) -> None:
        self._items, self._users = records[TRAINING_CONTENT], records[TRAINING_USERS]
        self._records = records
        self._held = held
        self._promise = promise
        self._only = only
        self._resyncing = {topic: bool(each.any()) for topic, each in promise.resyncing.items()}
        # Of each item's record: that of its account.
        account = self._users.find(hashes_in(self._items.rows, "account_"))
        users = self._users.rows
        known = account != ABSENT
        purged = np.ones(len(account), np.bool_)
        purged[known] = users["purged"][account[known]]
        covered = np.full(len(account), not self._resyncing[TRAINING_USERS])
        covered[known] = promise.covers(TRAINING_USERS, users[account[known]])
        rows = self._items.rows
        own = promise.covers(TRAINING_CONTENT, rows)
        self._locked = ~rows["purged"] & purged
        self._allowed = ~rows["purged"] & ~purged
        # What forbids it is applied: one of the two is enough, and both where it is allowed.
        self._forbids = np.where(rows["purged"], own, covered)
        self._allows = own & covered

    @property
    def allowed(self) -> int:
        """How many items the topics allow."""
        return int(self._allowed.sum())

    def shown(self) -> _Shown:
        """Judge the items that are found."""
        items = self._held.items
        at = self._items.find(hashes_in(items))
        known = at != ABSENT
        hit = np.zeros(len(self._items), np.bool_)
        hit[at[known]] = True
        kind = np.full(len(items), _FINE, np.uint8)
        kind[~known] = _LATE if self._resyncing[TRAINING_CONTENT] else Kind.UNKNOWN
        row = at[known]
        record, mine = self._items.rows[row], items[known]
        differs = (
            (record["fields"] != mine["fields"])
            | (record["account_high"] != mine["account_high"])
            | (record["account_low"] != mine["account_low"])
        )
        forbidden = ~self._allowed[row]
        found = np.full(len(row), _FINE, np.uint8)
        found[differs] = _WAITING
        found[differs & self._allows[row]] = Kind.OUTDATED
        found[forbidden] = _LATE
        found[forbidden & self._forbids[row]] = Kind.FORBIDDEN
        kind[known] = found
        wrong = np.flatnonzero(kind < _FINE)
        verdicts = _verdicts(items[wrong], kind[wrong], record=at[wrong], item=wrong)
        late, waiting = int((kind == _LATE).sum()), int((kind == _WAITING).sum())
        return _Shown(verdicts, hit, late, waiting)

    def absent(self, hit: Flags) -> _Absent:
        """Judge the items that are not found."""
        absent = self._allowed & ~hit & self._wanted(TRAINING_CONTENT)
        rows = np.flatnonzero(absent & self._allows)
        verdicts = _verdicts(self._items.rows[rows], Kind.MISSING, record=rows)
        return _Absent(verdicts, int((absent & ~self._allows).sum()))

    def accounts(self) -> Rows:
        """Judge what stands of accounts."""
        if not self._held.remembers:
            return np.empty(0, VERDICT)
        fences = self._held.fences[TRAINING_USERS]
        at, rows = self._users.find(hashes_in(fences)), self._users.rows
        stands = ~fences["purged"]
        known = at != ABSENT
        unknown = np.flatnonzero(stands & ~known & (not self._resyncing[TRAINING_USERS]))
        purged = np.zeros(len(fences), np.bool_)
        purged[known] = rows["purged"][at[known]]
        covered = np.zeros(len(fences), np.bool_)
        covered[known] = self._promise.covers(TRAINING_USERS, rows[at[known]])
        forbidden = np.flatnonzero(stands & purged & covered)
        standing = np.zeros(len(rows), np.bool_)
        standing[at[known & stands]] = True
        missing = np.flatnonzero(
            ~rows["purged"]
            & ~standing
            & self._wanted(TRAINING_USERS)
            & self._promise.covers(TRAINING_USERS, rows)
        )
        return np.concatenate(
            [
                _verdicts(fences[forbidden], Kind.FORBIDDEN, record=at[forbidden], fence=forbidden),
                _verdicts(fences[unknown], Kind.UNKNOWN, fence=unknown),
                _verdicts(rows[missing], Kind.MISSING, record=missing),
            ]
        )

    def memory(self, topic: str) -> Rows:
        """Judge what is remembered of the keys of *topic*."""
        if not self._held.remembers:
            return np.empty(0, VERDICT)
        fences, records = self._held.fences[topic], self._records[topic]
        rows = records.rows
        at = records.find(hashes_in(fences))
        known = at != ABSENT
        mine, theirs = fences[known], rows[at[known]]
        same = np.ones(len(fences), np.bool_)
        same[known] = _same_rank(mine, theirs)
        higher = np.zeros(len(fences), np.bool_)
        higher[known] = _higher(mine, theirs)
        covered = np.zeros(len(fences), np.bool_)
        covered[known] = self._promise.covers(topic, theirs)
        settled = not self._resyncing[topic]
        # Of a tombstone that is compacted away the memory stays; of a record it may not.
        left = ~known & ~fences["purged"] & settled
        wrong = np.flatnonzero((~same & (covered | higher)) | left)
        remembered = np.zeros(len(rows), np.bool_)
        remembered[at[known]] = True
        forgotten = np.flatnonzero(
            ~remembered & self._wanted(topic) & self._promise.covers(topic, rows)
        )
        return np.concatenate(
            [
                _verdicts(fences[wrong], Kind.MEMORY, record=at[wrong], fence=wrong),
                _verdicts(rows[forgotten], Kind.MEMORY, record=forgotten),
            ]
        )

    def _wanted(self, topic: str) -> Flags:
        rows = self._records[topic].rows
        if self._only is None:
            return np.ones(len(rows), np.bool_)
        return among(hashes_in(rows), self._only[topic])


_FINE: Final = 100
_LATE: Final = 101
_WAITING: Final = 102


def _verdicts(
    rows: Rows,
    kind: "Kind | Rows",
    *,
    record: Offsets | int = ABSENT,
    item: Offsets | int = ABSENT,
    fence: Offsets | int = ABSENT,
) -> Rows:
    found = np.empty(len(rows), VERDICT)
    found["kind"], found["high"], found["low"] = kind, rows["high"], rows["low"]
    found["record"], found["item"], found["fence"] = record, item, fence
    return found


def _same_rank(mine: Rows, theirs: Rows) -> Flags:
    same: Flags = (
        (mine["epoch"] == theirs["epoch"])
        & (mine["revision"] == theirs["revision"])
        & (mine["purged"] == theirs["purged"])
    )
    return same


def _higher(mine: Rows, theirs: Rows) -> Flags:
    higher: Flags = (mine["epoch"] > theirs["epoch"]) | (
        (mine["epoch"] == theirs["epoch"])
        & (
            (mine["revision"] > theirs["revision"])
            | ((mine["revision"] == theirs["revision"]) & mine["purged"] & ~theirs["purged"])
        )
    )
    return higher
