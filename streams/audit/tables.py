"""
What the topics say and what a store holds, as arrays of 128-bit hashes.

A record of a topic takes 69 bytes, an item found 40 and a fence 33, whatever the length of ids.
Keys are hashed with BLAKE2, as stores of files do, which keep no more of a purged key.  Fields are
compared by Python's own hash of their values.  Pure.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.sinks.contents import Key, Remembered, Shown
from streams.training.hashing import Hashes
from streams.training.table import Table

Rows = NDArray[Any]  # of one of the kinds below
Flags = NDArray[np.bool_]
Offsets = NDArray[np.int64]

_KEY: Final = [("high", "<u8"), ("low", "<u8")]
_ACCOUNT: Final = [("account_high", "<u8"), ("account_low", "<u8")]
_PAIR: Final = [("epoch", "<i8"), ("revision", "<i8")]
# A key's record; its account and fields are 0 where it is purged, and in `training-users`.
RECORD: Final = np.dtype(
    [
        *(_KEY + _ACCOUNT + _PAIR),
        *[("offset", "<i8"), ("fields", "<i8"), ("partition", "<i4"), ("purged", "?")],
    ]
)
# An item found in the store; *number* counts them, so that its text can be found again.
ITEM: Final = np.dtype([*(_KEY + _ACCOUNT), ("fields", "<i8")])
FENCE: Final = np.dtype([*(_KEY + _PAIR), ("purged", "?")])
PENDING_ROWS_MIN: Final = 500_000  # sorted in at a time, at least, or half of what is there


class Records:
    """
    Of each key the record that holds: the highest (epoch, revision), and a tombstone at a tie.

    rows: RECORD, in the order of the hashes, once `settle` was called.
    """

    def __init__(self) -> None:
        self.rows: Rows = np.empty(0, RECORD)
        self._table = Table()
        self._pending: list[Rows] = []
        self._pending_rows = 0

    def __len__(self) -> int:
        return len(self.rows)

    def put(self, rows: Rows) -> None:
        """Add records, later ones after earlier ones."""
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows >= max(PENDING_ROWS_MIN, len(self.rows) // 2):
            self.settle()

    def settle(self) -> None:
        """Let those hold that were put."""
        if not self._pending:
            return
        rows = np.concatenate([self.rows, *self._pending])
        self._pending, self._pending_rows = [], 0
        names = ("purged", "revision", "epoch", "low", "high")
        rows = rows[np.lexsort([rows[name] for name in names])]  # stable
        last = np.ones(len(rows), np.bool_)
        last[:-1] = (np.diff(rows["high"]) != 0) | (np.diff(rows["low"]) != 0)
        self.rows = rows[last]
        self._table = Table()
        self._table.restore(hashes_in(self.rows))

    def find(self, hashes: Hashes) -> Offsets:
        """Return the row of each hash, -1 where there is none."""
        return self._table.find(hashes)


def hashes_in(rows: Rows, of: str = "") -> Hashes:
    """Return the hashes of *rows*: of their keys, or of their "account_"."""
    return Hashes(np.ascontiguousarray(rows[f"{of}high"]), np.ascontiguousarray(rows[f"{of}low"]))


def hashes_of(keys: Iterable[Key]) -> Hashes:
    """Return the hashes of texts; of 16 bytes, which are one already, themselves."""
    digests = b"".join(
        key
        if isinstance(key, bytes)
        else blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        for key in keys
    )
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    return Hashes(np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1]))


def among(hashes: Hashes, wanted: Hashes) -> Flags:
    """Return which of *hashes* are among those *wanted*."""
    found: Flags = np.isin(hashes.high, wanted.high)
    rows = np.flatnonzero(found)
    pairs = set(zip(wanted.high.tolist(), wanted.low.tolist(), strict=True))
    ours = zip(hashes.high[rows].tolist(), hashes.low[rows].tolist(), strict=True)
    found[rows] = np.fromiter((pair in pairs for pair in ours), np.bool_, len(rows))
    return found


def items_of(shown: Sequence[Shown]) -> Rows:
    """Return items as rows of ITEM."""
    rows = np.empty(len(shown), ITEM)
    rows["high"], rows["low"] = hashes_of([each.content_id for each in shown])
    rows["account_high"], rows["account_low"] = hashes_of([each.account for each in shown])
    rows["fields"] = [fields_of(each.values) for each in shown]
    return rows


def fences_of(remembered: Remembered) -> Rows:
    """Return fences as rows of FENCE."""
    rows = np.empty(len(remembered.keys), FENCE)
    rows["high"], rows["low"] = hashes_of(remembered.keys)
    rows["epoch"], rows["revision"] = remembered.epochs, remembered.revisions
    rows["purged"] = ~np.asarray(remembered.allowed, np.bool_)
    return rows


def fields_of(values: Iterable[Any]) -> int:
    """Return a number that is the same for the same fields, in whatever form their times are."""
    return hash(tuple(map(comparable, values)))


def comparable(value: Any) -> Any:
    """Return *value*, and of a time, which stores keep in forms of their own, its instant."""
    if isinstance(value, str):
        if len(value) >= _TIME_CHARACTERS_MIN and value[4] == "-" and value[10] == "T":
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                return value
        return value
    return value.timestamp() if isinstance(value, datetime) else value


_TIME_CHARACTERS_MIN: Final = len("2026-04-15T09:00:00Z")
