"""
A small data store on disk that follows the outputs, as anybody's would: contract.md's two locks.

An item may be used only while its own record stands *and* the record of its product and user
stands.  For each key the highest (epoch, revision) applied is remembered: what is lower is
dropped, and at an equal pair a tombstone wins.  A purged row keeps nothing but that pair.
The place read up to is written with the rows, so a restart goes on where it stopped.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streams.core.times import to_ms
from streams.proof import Record
from streams.proof.truth import TrueItem

FEATURE_STORE: Final = "feature-store"
TRAINING_INDEX: Final = "training-index"

_SCHEMA: Final = """
CREATE TABLE positions (topic TEXT, partition INTEGER, next_offset INTEGER,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE accounts (key TEXT PRIMARY KEY, user_id TEXT, product TEXT,
    epoch INTEGER, allowed INTEGER) WITHOUT ROWID;
CREATE TABLE items (content_id TEXT PRIMARY KEY, user_id TEXT, product TEXT, kind TEXT,
    modality TEXT, language TEXT, created_at TEXT,
    epoch INTEGER, revision INTEGER, allowed INTEGER) WITHOUT ROWID;
CREATE INDEX items_of_account ON items (user_id, product) WHERE allowed;
CREATE VIEW usable AS SELECT items.* FROM items
    JOIN accounts ON accounts.key = items.product || '/' || items.user_id
    WHERE items.allowed AND accounts.allowed;
"""
# What those who use each store look at.
VIEWS: Final = {
    FEATURE_STORE: """
CREATE VIEW features AS SELECT user_id, product, count(*) AS items,
    count(DISTINCT language) AS languages, sum(kind = 'comment') * 1.0 / count(*) AS comments,
    min(created_at) AS first_at, max(created_at) AS last_at
    FROM usable GROUP BY user_id, product;
""",
    TRAINING_INDEX: """
CREATE VIEW documents AS SELECT language, modality, kind, content_id, created_at FROM usable;
""",
}
_ACCOUNT: Final = """
INSERT INTO accounts VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch, allowed = excluded.allowed
WHERE excluded.epoch > epoch OR (excluded.epoch = epoch AND excluded.allowed <= allowed)
"""
_ITEM: Final = """
INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (content_id) DO UPDATE SET user_id = excluded.user_id, product = excluded.product,
    kind = excluded.kind, modality = excluded.modality, language = excluded.language,
    created_at = excluded.created_at, epoch = excluded.epoch, revision = excluded.revision,
    allowed = excluded.allowed
WHERE (excluded.epoch, excluded.revision) > (epoch, revision)
    OR ((excluded.epoch, excluded.revision) = (epoch, revision) AND excluded.allowed <= allowed)
"""
_ITEM_FIELDS: Final = ("user_id", "product", "kind", "modality", "language", "created_at")


class Contents(NamedTuple):
    """
    What a store holds.

    usable: the items a query can reach, by content id.
    kept: ids of all items whose data lies in the store, reachable or not.
    """

    usable: dict[str, TrueItem]
    kept: frozenset[str]


class Store:
    """One store in the file *path*; used by one thread."""

    def __init__(self, path: Path, name: str) -> None:
        fresh = not path.exists()
        self._connection = sqlite3.connect(path)
        # Readers do not stop us; what is committed has reached the disk.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        # What was purged is overwritten, not only marked as free.
        self._connection.execute("PRAGMA secure_delete = ON")
        if fresh:
            self._connection.executescript(_SCHEMA + VIEWS[name])

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset to read of each partition seen so far."""
        rows = self._connection.execute("SELECT topic, partition, next_offset FROM positions")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def apply(self, accounts: Sequence[Record], items: Sequence[Record]) -> None:
        """
        Apply records and tombstones of `training-users` and `training-content`, all or none.

        Durable on return.
        """
        ends = {(each.topic, each.partition): each.offset + 1 for each in (*accounts, *items)}
        with self._connection:
            self._connection.executemany(_ACCOUNT, map(_account_row, accounts))
            self._connection.executemany(_ITEM, map(_item_row, items))
            self._connection.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                [(topic, partition, end) for (topic, partition), end in ends.items()],
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def contents(path: Path) -> Contents:
    """Return what the store in *path* holds; any thread or process may ask."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT content_id, user_id, revision, product, kind, modality, language, created_at "
            "FROM usable"
        )
        usable = {content_id: _item(*fields) for content_id, *fields in rows}
        # Data left in a row that says it is purged counts as kept.
        present = " OR ".join(f"{name} IS NOT NULL" for name in _ITEM_FIELDS)
        kept = connection.execute(f"SELECT content_id FROM items WHERE allowed OR {present}")  # noqa: S608
        return Contents(usable, frozenset(content_id for (content_id,) in kept))
    finally:
        connection.close()


def _item(*fields: Any) -> TrueItem:
    *others, created_at = fields
    return TrueItem._make([*others, to_ms(datetime.fromisoformat(created_at))])


def _account_row(record: Record) -> tuple[Any, ...]:
    product, _, user_id = record.key_text.partition("/")
    return record.key_text, user_id, product, _number(record, "epoch"), record.value is not None


def _item_row(record: Record) -> tuple[Any, ...]:
    pair = _number(record, "epoch"), _number(record, "revision")
    if record.value is None:
        return record.key_text, *[None] * len(_ITEM_FIELDS), *pair, False
    value = msgspec.json.decode(record.value)
    return record.key_text, *[value[name] for name in _ITEM_FIELDS], *pair, True


def _number(record: Record, name: str) -> int:
    text = record.header(f"objections_{name}")
    assert text is not None, f"{record.place} has no header objections_{name}"
    return int(text)
