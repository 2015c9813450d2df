"""The PostgreSQL sink passes the suite of all sinks, and purges what lies beside its rows."""

import functools
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from streams.errors import Busy, Unreachable, UsageProblem
from streams.sinks.postgres import PostgresSink
from streams.testing.audits import AuditTests
from streams.testing.output_log import Log, batch
from streams.testing.sinks import SinkTests
from streams.testing.store import Factory
from tests.servers import PostgresServer, postgres_server


class PostgresStore:
    """The tables of a server, and all its files."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    @property
    def make(self) -> Factory:
        return functools.partial(PostgresSink, self._server.url)

    def usable(self) -> dict[str, dict[str, Any]]:
        with psycopg.connect(self._server.url, row_factory=dict_row) as connection:
            rows = connection.execute("SELECT * FROM objections.usable").fetchall()
        return {row["content_id"]: row for row in rows}

    def at_rest(self) -> Iterator[bytes]:
        for path in self._server.folder.rglob("*"):
            try:
                if path.is_file():
                    yield path.read_bytes()
            except FileNotFoundError:  # a segment that has just gone
                continue

    def plant(self, row: Mapping[str, Any]) -> None:
        columns = {name: value for name, value in row.items() if name != "partition"}
        names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
        sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
        self.do(
            f"INSERT INTO objections.items ({names}) VALUES ({marks}) "  # noqa: S608
            f"ON CONFLICT (content_id) DO UPDATE SET {sets}",
            *columns.values(),
        )

    def empty(self) -> None:
        self.do("DROP SCHEMA IF EXISTS objections CASCADE")

    def do(self, statement: str, *values: object) -> None:
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(statement.encode(), values or None)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Return a PostgreSQL that keeps no old WAL."""
    with postgres_server(wal_recycle="off", shared_buffers="32MB", wal_compression="off") as found:
        yield found


@pytest.fixture
def store(server: PostgresServer) -> PostgresStore:
    """Return a database without our tables."""
    found = PostgresStore(server)
    found.empty()
    return found


class TestPostgres(SinkTests, AuditTests):
    examples = 2  # each begins with new tables, and an erasure writes them anew
    steps = 10

    @pytest.fixture
    def store(self, server: PostgresServer) -> PostgresStore:
        found = PostgresStore(server)
        found.empty()
        return found


def test_embeddings_go_with_their_items(store: PostgresStore) -> None:
    """
    A column of vectors and its index are the user's: records leave them, a tombstone takes them.
    """
    vectors = {f"c{number}": [number + 0.123, 0.5, number * 7.77] for number in range(20)}
    log = Log()
    log.user("u1", 1)
    for name in vectors:
        log.item(name, "u1", 1, 1)
    store.do("CREATE EXTENSION IF NOT EXISTS vector")
    sink = store.make()
    sink.open()
    sink.apply(batch(log.changes))
    store.do("ALTER TABLE objections.items ADD COLUMN embedding vector(3)")
    store.do("CREATE INDEX ON objections.items USING hnsw (embedding vector_l2_ops)")
    for name, vector in vectors.items():
        store.do(
            "UPDATE objections.items SET embedding = %s::text::vector WHERE content_id = %s",
            str(vector),
            name,
        )
    store.do("CHECKPOINT")
    assert vectors.keys() == stored(store, vectors)

    sink.apply(batch([log.item("c1", "u1", 1, 2)]))
    sink.apply(batch([log.item(f"c{n}", "u1", 2, 2, allowed=False) for n in range(2, 20)]))
    sink.erase()

    assert {"c0", "c1"} == stored(store, vectors)
    # The rows that are left can still be searched by their vectors.
    store.do("SELECT content_id FROM objections.items ORDER BY embedding <-> '[0,0,0]' LIMIT 2")
    sink.close()


def test_old_snapshots_hold_up_erasing(
    store: PostgresStore, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While a transaction may still see a purged row its bytes stay, and `erase` says whose fault.
    """
    monkeypatch.setattr("streams.sinks.postgres.OLD_SNAPSHOT_S", 0.3)
    log = Log()
    sink = store.make()
    sink.open()
    sink.apply(batch([log.user("u1", 1), log.item("c1", "u1", 1, 1)]))
    with psycopg.connect(server.url) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT * FROM objections.usable")
        sink.apply(batch([log.item("c1", "u1", 2, 1, allowed=False)]))
        with pytest.raises(Busy, match=f"for process {reader.info.backend_pid}"):
            sink.erase()
    sink.erase()
    sink.close()


def test_a_server_that_is_away_or_forgets(store: PostgresStore, server: PostgresServer) -> None:
    """
    A server that does not answer, or is not durable, is told apart, with what to do about it.
    """
    with pytest.raises(Unreachable, match=r"PostgreSQL at 127.0.0.1:1 cannot be reached"):
        PostgresSink("postgresql://tests@127.0.0.1:1/x").open()
    sink = PostgresSink(f"{server.url}?schema=other")
    sink.open()
    sink.apply(batch([Log().user("u1", 1)]))
    store.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(Unreachable):
        sink.apply(batch([Log().user("u2", 1)]))
    store.do("DROP SCHEMA other CASCADE")
    with postgres_server(fsync="off") as forgetful:
        with pytest.raises(UsageProblem, match="has fsync off"):
            PostgresSink(forgetful.url).open()
        PostgresSink(f"{forgetful.url}?volatile=yes").open()


def stored(store: PostgresStore, vectors: dict[str, list[float]]) -> set[str]:
    """Return whose vectors lie in the server's files."""
    files = list(store.at_rest())
    return {
        name
        for name, vector in vectors.items()
        if any(struct.pack("<3f", *vector) in data for data in files)
    }
