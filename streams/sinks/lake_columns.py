"""
What the stores of files share: their two tables as Arrow schemas, and who wins, by whole columns.

`items` is what people read: the items that may be used now, and nothing else.  `state` is ours: a
row for each change applied.  Nothing in it is ever updated; for each key the greatest rank holds,
and within it the greatest generation.  So rows may be added twice, late and in any order: `state`
is a join, and `items` can be worked out anew from it at any time.

Keys are remembered as 128 bits of BLAKE2: once an item is purged, its id is nowhere in the store.
No I/O here.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Change, Place, Position

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# The kinds of rows in `state`.  A position's epoch is its generation and its revision its offset,
# so that the greatest rank is how far the place has got; its content_id is the topic's id.
ACCOUNT: Final = 0
ITEM: Final = 1
ACCOUNT_POSITION: Final = 2
ITEM_POSITION: Final = 3
KIND_OF_TOPIC: Final = {TRAINING_USERS: ACCOUNT, TRAINING_CONTENT: ITEM}
TOPIC_OF_POSITION: Final = {ACCOUNT_POSITION: TRAINING_USERS, ITEM_POSITION: TRAINING_CONTENT}

VALUE_FIELDS: Final = ("content_id", "user_id", "product", "kind", "modality", "language")
ITEM_SCHEMA: Final = pa.schema(
    [
        ("partition", pa.int32()),
        *((name, pa.string()) for name in VALUE_FIELDS),
        ("created_at", pa.string()),
        ("epoch", pa.int64()),
        ("revision", pa.int64()),
    ]
)
FENCE_FIELDS: Final = (
    "row_kind",
    "key_high",
    "key_low",
    "account_high",
    "account_low",
    "epoch",
    "revision",
    "purged",
    "generation",
)
STATE_SCHEMA: Final = pa.schema(
    [
        ("partition", pa.int32()),
        ("row_kind", pa.int32()),
        ("key_high", pa.int64()),
        ("key_low", pa.int64()),
        ("account_high", pa.int64()),
        ("account_low", pa.int64()),
        ("epoch", pa.int64()),
        ("revision", pa.int64()),
        ("purged", pa.bool_()),
        ("generation", pa.int64()),
        *((name, pa.string()) for name in VALUE_FIELDS),
        ("created_at", pa.string()),
    ]
)
ITEM_FIELDS: Final = tuple(ITEM_SCHEMA.names[1:])
STATE_FIELDS: Final = tuple(STATE_SCHEMA.names[1:])


class Fences(NamedTuple):
    """The ranks in rows of `state`, one array for each of FENCE_FIELDS; all of one length."""

    row_kind: Integers
    key_high: Integers
    key_low: Integers
    account_high: Integers
    account_low: Integers
    epoch: Integers
    revision: Integers
    purged: Flags
    generation: Integers

    @classmethod
    def of(cls, table: pa.Table) -> "Fences":
        columns: list[Any] = [_numpy(table.column(name)) for name in FENCE_FIELDS]
        return cls(*columns)

    def take(self, rows: Integers | Flags) -> "Fences":
        columns: list[Any] = [column[rows] for column in self]
        return Fences(*columns)

    def joined(self, other: "Fences") -> "Fences":
        columns: list[Any] = [np.concatenate(pair) for pair in zip(self, other, strict=True)]
        return Fences(*columns)

    def __bool__(self) -> bool:
        return len(self.epoch) > 0


def holding(fences: Fences) -> Integers:
    """Return the rows that hold: of each key the one of greatest rank, then generation."""
    if not fences:
        return np.zeros(0, np.int64)
    order = np.lexsort(
        (
            fences.generation,
            fences.purged,
            fences.revision,
            fences.epoch,
            fences.key_low,
            fences.key_high,
            fences.row_kind,
        )
    )
    last = np.ones(len(order), np.bool_)
    last[:-1] = (
        (np.diff(fences.row_kind[order]) != 0)
        | (np.diff(fences.key_high[order]) != 0)
        | (np.diff(fences.key_low[order]) != 0)
    )
    held: Integers = order[last]
    return held


def hashed(keys: Iterable[str]) -> tuple[Integers, Integers]:
    """Return the high and low 64 bits of each key's hash."""
    return hashes_in(b"".join(blake2b(key.encode(), digest_size=16).digest() for key in keys))


def hashes_in(digests: bytes) -> tuple[Integers, Integers]:
    """Return the halves of hashes that lie one after the other, each of 16 bytes."""
    halves = np.frombuffer(digests, np.dtype("<i8")).reshape(-1, 2).astype(np.int64)
    return halves[:, 0], halves[:, 1]


def key_bytes(high: Integers, low: Integers) -> list[bytes]:
    """Return the 16 bytes of each hash."""
    flat = np.stack((high, low), axis=1).astype("<i8").tobytes()
    return [flat[start : start + 16] for start in range(0, len(flat), 16)]


def state_rows(
    partition: int, changes: Sequence[Change], reached: Mapping[Place, Position]
) -> pa.Table:
    """Return *changes*, all of one partition number, as rows of `state`."""
    key_high, key_low = hashed(change.key for change in changes)
    account_high, account_low = hashed(_account(change) for change in changes)
    generations = {
        topic: reached[place].generation if (place := Place(topic, partition)) in reached else 0
        for topic in KIND_OF_TOPIC
    }
    values: list[Mapping[str, Any]] = [
        change.value if change.topic == TRAINING_CONTENT and change.value is not None else {}
        for change in changes
    ]
    columns: dict[str, Any] = {
        "partition": np.full(len(changes), partition, np.int32),
        "row_kind": [KIND_OF_TOPIC[change.topic] for change in changes],
        "key_high": key_high,
        "key_low": key_low,
        "account_high": account_high,
        "account_low": account_low,
        "epoch": [change.epoch for change in changes],
        "revision": [change.revision for change in changes],
        "purged": [change.value is None for change in changes],
        "generation": [generations[change.topic] for change in changes],
        **{name: [value.get(name) for value in values] for name in (*VALUE_FIELDS, "created_at")},
    }
    return pa.table(columns, schema=STATE_SCHEMA)


def position_rows(reached: Mapping[Place, Position]) -> pa.Table:
    """Return the positions as rows of `state`."""
    kinds = {topic: kind for kind, topic in TOPIC_OF_POSITION.items()}
    columns: dict[str, Any] = {name: [None] * len(reached) for name in STATE_SCHEMA.names}
    columns |= {name: [0] * len(reached) for name in FENCE_FIELDS}
    columns |= {
        "partition": [place.partition for place in reached],
        "row_kind": [kinds[place.topic] for place in reached],
        "epoch": [position.generation for position in reached.values()],
        "revision": [position.offset for position in reached.values()],
        "purged": [False] * len(reached),
        "content_id": [position.topic_id for position in reached.values()],
    }
    return pa.table(columns, schema=STATE_SCHEMA)


def item_rows(rows: pa.Table) -> pa.Table:
    """Return rows of `state` as rows of `items`."""
    return rows.select(ITEM_SCHEMA.names)


def _account(change: Change) -> str:
    """Return the key of the account an item belongs to; for an account and a purge, any text."""
    if change.topic == TRAINING_USERS or change.value is None:
        return ""
    return f"{change.value['product']}/{change.value['user_id']}"


def _numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_numpy()
    return values if values.dtype == np.bool_ else values.astype(np.int64, copy=False)
