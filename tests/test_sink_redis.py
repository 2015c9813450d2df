"""The Redis sink passes the suite of all sinks, and says which servers are not durable."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.errors import Unreachable, UsageProblem
from streams.sinks.redis import RedisSink
from streams.testing.audits import AuditTests
from streams.testing.output_log import Log, batch
from streams.testing.sinks import SinkTests
from streams.testing.store import Factory
from tests.servers import RedisServer, redis_server

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class RedisStore:
    """All keys of a server, and its files."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.client = redis.Redis.from_url(server.url)

    @property
    def make(self) -> Factory:
        return functools.partial(RedisSink, self._server.url)

    def usable(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name in self.client.scan_iter("objections:items:*", count=1_000):
            rows: Any = self.client.hgetall(name)
            for content_id, text in rows.items():
                found[content_id.decode()] = json.loads(text)
        return found

    def at_rest(self) -> Iterator[bytes]:
        for path in self._server.folder.rglob("*"):
            if path.is_file():
                yield path.read_bytes()

    def plant(self, row: Mapping[str, Any]) -> None:
        name = f"objections:items:{row['product']}/{row['user_id']}"
        self.client.hset(name, row["content_id"], json.dumps(row))

    def empty(self) -> None:
        self.client.flushall()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a durable Redis whose snapshots keep texts as they are."""
    folder = tmp_path_factory.mktemp("redis")
    with redis_server(folder, *DURABLE, "--rdbcompression", "no") as found:
        yield found


class TestRedis(SinkTests, AuditTests):
    examples = 8  # each erasure writes the server's log anew

    @pytest.fixture
    def store(self, server: RedisServer) -> RedisStore:
        found = RedisStore(server)
        found.empty()
        return found


def test_an_account_is_hidden_by_one_rename(server: RedisServer) -> None:
    """
    However many items an account has, hiding it moves one key; nothing of it is read or written.
    """
    store = RedisStore(server)
    store.empty()
    log = Log()
    log.user("u1", 1)
    for number in range(2_000):
        log.item(f"c{number}", "u1", 1, 1)
    sink = store.make()
    sink.open()
    sink.apply(batch(log.changes))
    store.client.config_resetstat()
    sink.apply(batch([log.user("u1", 2, allowed=False)]))
    calls: Any = store.client.info("commandstats")
    sink.close()

    assert {} == store.usable()
    assert 1 == calls["cmdstat_rename"]["calls"]
    assert not {"cmdstat_hdel", "cmdstat_del"} & calls.keys()
    assert calls["cmdstat_hset"]["calls"] == 2, "the fence and the position"


def test_a_server_that_forgets_is_refused(tmp_path: Path) -> None:
    """
    Without a log the sink does not open, and says what to do; asked to, it does without.
    """
    with redis_server(tmp_path / "redis") as found:
        with pytest.raises(UsageProblem, match=r"appendonly is no.*CONFIG SET appendonly yes"):
            RedisSink(found.url).open()
        sink = RedisSink(f"{found.url}?volatile=yes&prefix=mine:")
        sink.open()
        sink.apply(batch([Log().user("u1", 1)]))
        sink.close()

        keys: Any = redis.Redis.from_url(found.url).keys()
        assert keys
        assert all(key.startswith(b"mine:") for key in keys)

    with pytest.raises(Unreachable, match=r"Redis at 127.0.0.1:\d+ cannot be reached"):
        sink.open()


def test_a_server_that_was_restarted_is_noticed(tmp_path: Path) -> None:
    """
    A connection that broke is not renewed unseen: the data behind it may be older by now.
    """
    with redis_server(tmp_path / "redis", *DURABLE) as found:
        sink = RedisSink(found.url)
        sink.open()
        log = Log()
        sink.apply(batch([log.user("u1", 1)]))
        port = int(found.url.rpartition(":")[2].partition("/")[0])
    with redis_server(tmp_path / "redis", *DURABLE, port=port):
        with pytest.raises(Unreachable):
            sink.apply(batch([log.user("u2", 1)]))
        sink.close()
        sink.open()

        assert batch(log.changes[:1]).reached == dict(sink.positions())
        sink.close()
