"""
A store in one SQLite file: tables of accounts and items, and the view `usable` behind both locks.

For stores on one machine, and a short example of a sink.  What is purged is overwritten in the
file at once; SQLite's log beside it holds old pages until `erase` has emptied it.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streams.errors import Busy, Unreachable
from streams.sinks.columns import ACCOUNT, FENCE, ITEM, split, upsert
from streams.sinks.contents import FIELDS, PAGE_ROWS, Key, Remembered, Shown
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Batch, Place, Position

LOCK_TIMEOUT_S: Final = 10.0  # Others write for as long as a batch takes.
RETRY_AFTER_S: Final = 0.2

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition INTEGER, topic_id TEXT,
    next_offset INTEGER, generation INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (key TEXT PRIMARY KEY, user_id TEXT, product TEXT,
    epoch INTEGER, revision INTEGER, allowed INTEGER, partition INTEGER, generation INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (content_id TEXT PRIMARY KEY, user_id TEXT, product TEXT,
    kind TEXT, modality TEXT, language TEXT, created_at TEXT,
    epoch INTEGER, revision INTEGER, allowed INTEGER, partition INTEGER, generation INTEGER)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_of_account ON items (user_id, product) WHERE allowed;
CREATE VIEW IF NOT EXISTS usable AS
    SELECT items.content_id, items.user_id, items.revision, items.product, items.kind,
        items.modality, items.language, items.created_at
    FROM items JOIN accounts ON accounts.key = items.product || '/' || items.user_id
    WHERE items.allowed AND accounts.allowed;
"""
_POSITION: Final = """
INSERT INTO positions VALUES (?, ?, ?, ?, ?)
ON CONFLICT (topic, partition) DO UPDATE SET topic_id = excluded.topic_id,
    next_offset = excluded.next_offset, generation = excluded.generation
WHERE (excluded.generation, excluded.next_offset) >= (generation, next_offset)
"""


def _insert(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT ({columns[0]}) " + upsert(  # noqa: S608
        table, columns, "max"
    )


_ACCOUNT: Final = _insert("accounts", (*ACCOUNT, *FENCE))
_ITEM: Final = _insert("items", (*ITEM, *FENCE))
# By topic: the table of its keys, and their column.
_KEYS: Final = {TRAINING_USERS: ("accounts", "key"), TRAINING_CONTENT: ("items", "content_id")}
_SHOWN: Final = f"SELECT content_id, product || '/' || user_id, {', '.join(FIELDS)} FROM usable"  # noqa: S608


class SqliteSink:
    """
    A store in the file *path*.

    views: SQL that makes what the store's users look at, besides `usable`; run at each opening.
    """

    fields = FIELDS

    def __init__(self, path: Path | str, *, views: str = "", erase_every_s: float = 5.0) -> None:
        self.erase_every_s = erase_every_s
        self._path = Path(path)
        self._views = views
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        try:
            connection = sqlite3.connect(
                self._path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            message = (
                f"the store {self._path} cannot be opened: {error}. "
                "Remedy: see that its folder exists and may be written."
            )
            raise Unreachable(message) from error
        self._connection = connection
        with self._locked():
            # Readers do not stop us; what is committed has reached the disk.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # What was purged is overwritten, not only marked as free.
            connection.execute("PRAGMA secure_delete = ON")
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {self._views} COMMIT;")

    def positions(self) -> Mapping[Place, Position]:
        with self._locked() as connection:
            rows = connection.execute(
                "SELECT topic, partition, topic_id, next_offset, generation FROM positions"
            )
            return {Place(topic, number): Position(*rest) for topic, number, *rest in rows}

    def apply(self, batch: Batch) -> None:
        accounts, items = split(batch)
        positions = [(*place, *position) for place, position in batch.reached.items()]
        with self._transaction() as connection:
            connection.executemany(_ACCOUNT, accounts)
            connection.executemany(_ITEM, items)
            connection.executemany(_POSITION, positions)

    def sweep(self, place: Place, generation: int) -> None:
        table = "accounts" if place.topic == TRAINING_USERS else "items"
        with self._transaction() as connection:
            connection.execute(
                f"DELETE FROM {table} WHERE partition = ? AND generation < ?",  # noqa: S608
                (place.partition, generation),
            )

    def erase(self) -> None:
        with self._locked() as connection:
            # The log beside the file: its pages go into the file, and it is cut to nothing.
            ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if busy:
            message = f"the store {self._path} is being read; its log cannot be emptied now"
            raise Busy(message, RETRY_AFTER_S)

    def shown(self) -> Iterator[Sequence[Shown]]:
        with self._locked() as connection:
            cursor = connection.execute(_SHOWN)
            while rows := cursor.fetchmany(PAGE_ROWS):
                yield [Shown(key, account, tuple(values)) for key, account, *values in rows]

    def remembered(self) -> Iterator[Remembered]:
        with self._locked() as connection:
            for topic, (table, key) in _KEYS.items():
                cursor = connection.execute(f"SELECT {key}, epoch, revision, allowed FROM {table}")  # noqa: S608
                while rows := cursor.fetchmany(PAGE_ROWS):
                    yield Remembered(topic, *zip(*rows, strict=True))

    def expel(self, topic: str, found: Sequence[tuple[Key, str]]) -> None:
        table, key = _KEYS[topic]
        with self._transaction() as connection:
            connection.executemany(
                f"DELETE FROM {table} WHERE {key} = ?",  # noqa: S608
                [(each,) for each, _ in found],
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._locked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """Raise Busy where others have written for longer than we wait."""
        assert self._connection is not None, "the sink is not open"
        try:
            yield self._connection
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise
            raise Busy(f"the store {self._path} is locked: {error}", RETRY_AFTER_S) from error
