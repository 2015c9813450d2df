"""
The demo's data stores, real ones that need no server: a feature table in SQLite, and a training
index in a Delta Lake.

`objections subscribe` writes them; here they are read as their users read them, past the sinks.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from streams.core.times import read_rfc3339
from streams.proof.truth import TrueItem

FEATURE_STORE: Final = "feature-store"
TRAINING_INDEX: Final = "training-index"
# Far more often than the sinks' defaults, so that a demo sees it happen.
ERASE_EVERY_S: Final = {FEATURE_STORE: 1, TRAINING_INDEX: 2}
READ_TRIES: Final = 50  # files may be erased, or written, while they are being read
READ_AGAIN_S: Final = 0.05

_FIELDS: Final = ("content_id", "user_id", "revision", "product", "kind", "modality", "language")


class Contents(NamedTuple):
    """
    What a store holds.

    usable: the items a query can reach, by content id.
    kept: ids of all items of which data lies in the store's files, reachable or not.
    """

    usable: dict[str, TrueItem]
    kept: frozenset[str]


@dataclass(frozen=True, slots=True)
class Store:
    """
    The store *name* at *path*.

    look: a command that shows what its users see.
    """

    name: str
    path: Path
    scheme: ClassVar[str]

    @property
    def url(self) -> str:
        """What `objections subscribe --sink` takes."""
        return f"{self.scheme}:{self.path}?erase_every_s={ERASE_EVERY_S[self.name]}"

    @property
    def look(self) -> str:
        raise NotImplementedError

    def contents(self) -> Contents:
        """Return what it holds now; it may be written meanwhile."""
        raise NotImplementedError


class SqliteStore(Store):
    """A file, with the view `usable`."""

    scheme = "sqlite"

    @property
    def look(self) -> str:
        return f"sqlite3 {self.path} 'SELECT * FROM usable'"  # noqa: S608 - for people

    def contents(self) -> Contents:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            usable = _items(connection.execute("SELECT * FROM usable"))
            # Data left in a row that says it is purged counts as kept.
            present = " OR ".join(f"{name} IS NOT NULL" for name in ("user_id", *_FIELDS[3:]))
            kept = connection.execute(f"SELECT content_id FROM items WHERE allowed OR {present}")  # noqa: S608
            return Contents(usable, frozenset(content_id for (content_id,) in kept))
        finally:
            connection.close()


class DeltaStore(Store):
    """A folder of tables, of which `items` is for users."""

    scheme = "delta"

    @property
    def look(self) -> str:
        files = f"DeltaTable('{self.path}/items').file_uris()"
        show = f"print(pq.read_table({files}))"
        return f'python -c "from deltalake import *; import pyarrow.parquet as pq; {show}"'

    def contents(self) -> Contents:
        for left in reversed(range(READ_TRIES)):
            try:
                # Not `to_pyarrow_table`: a process that has read so aborts when it ends.
                files = DeltaTable(self.path / "items").file_uris()
                rows = [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]
                return Contents(_items(rows), self._kept())
            except (OSError, DeltaError, pa.ArrowInvalid):
                if not left:
                    raise
                time.sleep(READ_AGAIN_S)
        raise AssertionError

    def _kept(self) -> frozenset[str]:
        """Return the items of all Parquet files, of old versions and the sink's own table too."""
        kept: set[str] = set()
        for path in self.path.glob("*/partition=*/*.parquet"):
            table = pq.ParquetFile(path).read(["content_id", "user_id"])
            owned = table.filter(table.column("user_id").is_valid())
            kept.update(owned.column("content_id").drop_null().to_pylist())
        return frozenset(kept)


def _items(rows: Iterable[Mapping[str, Any]]) -> dict[str, TrueItem]:
    return {row["content_id"]: _item(row) for row in rows}


def _item(row: Mapping[str, Any]) -> TrueItem:
    created_ms = read_rfc3339(row["created_at"])
    return TrueItem._make([*(row[name] for name in _FIELDS[1:]), created_ms])
