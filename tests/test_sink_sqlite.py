"""The SQLite sink passes the suite of all sinks."""

import functools
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from streams.sinks.sqlite import SqliteSink
from streams.testing.audits import AuditTests
from streams.testing.sinks import SinkTests
from streams.testing.store import Factory


class SqliteStore:
    """A file, and its log beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def make(self) -> Factory:
        return functools.partial(SqliteSink, self.path)

    def usable(self) -> dict[str, dict[str, Any]]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM usable").fetchall()
        finally:
            connection.close()
        return {row["content_id"]: dict(row) for row in rows}

    def at_rest(self) -> Iterator[bytes]:
        for path in self.path.parent.glob(f"{self.path.name}*"):
            yield path.read_bytes()

    def plant(self, row: Mapping[str, Any]) -> None:
        columns = {**row, "epoch": 50, "allowed": 1, "generation": 0}
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        with sqlite3.connect(self.path) as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO items ({names}) VALUES ({marks})",  # noqa: S608
                list(columns.values()),
            )
        connection.close()

    def empty(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()


class TestSqlite(SinkTests, AuditTests):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SqliteStore:
        return SqliteStore(tmp_path / "store.sqlite")
