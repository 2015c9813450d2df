"""
What tables of files hold, as an audit asks for it.  No I/O here.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from streams.sinks.contents import FIELDS, PAGE_ROWS, Key, Remembered, Shown
from streams.sinks.lake_columns import (
    KIND_OF_TOPIC,
    Fences,
    Flags,
    Integers,
    hashed,
    hashes_in,
    holding,
    key_bytes,
)

SHOWN_COLUMNS: Final = ("content_id", *FIELDS)


def pages_of(table: pa.Table) -> Iterator[Sequence[Shown]]:
    """Yield the rows of *table*, which has SHOWN_COLUMNS."""
    for start in range(0, table.num_rows, PAGE_ROWS):
        columns = [column.to_pylist() for column in table.slice(start, PAGE_ROWS).columns]
        products, users = (columns[SHOWN_COLUMNS.index(name)] for name in ("product", "user_id"))
        accounts = [f"{product}/{user}" for product, user in zip(products, users, strict=True)]
        ids = [content_id or "" for content_id in columns[0]]
        yield list(map(Shown, ids, accounts, zip(*columns[1:], strict=True)))


def remembered_in(fences: Fences) -> Iterator[Remembered]:
    """Yield what rows of `state` remember."""
    held = fences.take(holding(fences))
    for topic, kind in KIND_OF_TOPIC.items():
        one = held.take(held.row_kind == kind)
        yield Remembered(
            topic,
            key_bytes(one.key_high, one.key_low),
            one.epoch.tolist(),
            one.revision.tolist(),
            (~one.purged).tolist(),
        )


def hashes_of(keys: Iterable[Key]) -> tuple[Integers, Integers]:
    """Return the halves of the keys' hashes."""
    digests = (key if isinstance(key, bytes) else key_bytes(*hashed((key,)))[0] for key in keys)
    return hashes_in(b"".join(digests))


def among(fences: Fences, kind: int, high: Integers, low: Integers) -> Flags:
    """Return the rows of *kind* that are of one of these hashes."""
    found: Flags = (fences.row_kind == kind) & np.isin(fences.key_high, high)
    wanted = set(zip(high.tolist(), low.tolist(), strict=True))
    rows = np.flatnonzero(found)
    pairs = zip(fences.key_high[rows].tolist(), fences.key_low[rows].tolist(), strict=True)
    found[rows] = np.fromiter((pair in wanted for pair in pairs), np.bool_, len(rows))
    return found
