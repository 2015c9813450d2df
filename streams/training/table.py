"""
A table from 128-bit hashes to a few numbers: sorted arrays, nothing else in memory.

Rows come in batches; the last one of a hash holds.  They are kept aside until they are worth
sorting in, so that a row is moved a few times only while the table grows.  Exact: rows whose first
64 bits are equal are told apart by the others.  Pure.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.training.hashing import Hashes, Offsets

ABSENT: Final = -1
PENDING_ROWS_MIN: Final = 500_000  # sorted in at a time, at least, or half of what is there

Column = NDArray[Any]


class Table:
    """
    Rows of *columns*, found by hash; see `settle`.

    hashes: in the order of their first halves.  columns: in the same order.
    """

    def __init__(self, *kinds: type[np.generic]) -> None:
        self.hashes = Hashes.nothing(0)
        self.columns: tuple[Column, ...] = tuple(np.empty(0, kind) for kind in kinds)
        self._pending: list[tuple[Hashes, tuple[Column, ...]]] = []
        self._pending_rows = 0

    def __len__(self) -> int:
        return len(self.hashes.high)

    def put(self, hashes: Hashes, *columns: Column) -> None:
        """Add rows, later ones instead of earlier ones; found once the table is settled."""
        assert len(columns) == len(self.columns)
        something = hashes.is_something()
        if not something.all():
            hashes, columns = hashes.at(something), tuple(each[something] for each in columns)
        self._pending.append((hashes, columns))
        self._pending_rows += len(hashes.high)
        if self._pending_rows >= max(PENDING_ROWS_MIN, len(self) // 2):
            self.settle()

    def settle(self) -> None:
        """Sort in what was put."""
        if not self._pending:
            return
        news, columns = _newest(self._pending, len(self.columns))
        self._pending, self._pending_rows = [], 0
        at = self.find(news)
        known = at != ABSENT
        for mine, theirs in zip(self.columns, columns, strict=True):
            mine[at[known]] = theirs[known]
        new = ~known
        if new.any():
            places = np.searchsorted(self.hashes.high, news.high[new])
            self.hashes = Hashes(
                np.insert(self.hashes.high, places, news.high[new]),
                np.insert(self.hashes.low, places, news.low[new]),
            )
            self.columns = tuple(
                np.insert(mine, places, theirs[new])
                for mine, theirs in zip(self.columns, columns, strict=True)
            )

    def restore(self, hashes: Hashes, *columns: Column) -> None:
        """Take rows as another table had them once it was settled."""
        self.hashes, self.columns = hashes, columns

    def find(self, hashes: Hashes) -> Offsets:
        """Return the row of each hash, ABSENT where there is none; settled rows only."""
        found = np.full(len(hashes.high), ABSENT, np.int64)
        if not len(self) or not len(found):
            return found
        # Neighbours in the table are asked for one after the other: the processor's caches help.
        order = np.argsort(hashes.high)
        high, low = hashes.high[order], hashes.low[order]
        rows = np.searchsorted(self.hashes.high, high)
        asked = np.flatnonzero(hashes.is_something()[order])
        while len(asked):
            inside = rows[asked] < len(self)
            asked = asked[inside]
            asked = asked[self.hashes.high[rows[asked]] == high[asked]]
            same = self.hashes.low[rows[asked]] == low[asked]
            found[order[asked[same]]] = rows[asked[same]]
            asked = asked[~same]
            rows[asked] += 1
        return found


def _newest(
    pending: list[tuple[Hashes, tuple[Column, ...]]], count: int
) -> tuple[Hashes, tuple[Column, ...]]:
    """Return the last row of each hash, in the order of the hashes."""
    high = np.concatenate([hashes.high for hashes, _ in pending])
    low = np.concatenate([hashes.low for hashes, _ in pending])
    order = np.lexsort((low, high))  # stable: rows of one hash stay in the order they came
    high, low = high[order], low[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    chosen = order[last]
    columns = tuple(
        np.concatenate([columns[each] for _, columns in pending])[chosen] for each in range(count)
    )
    return Hashes(high[last], low[last]), columns
