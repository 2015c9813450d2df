"""The Feast sink passes the suite of all sinks, read by Feast; what Feast itself wrote goes too."""

import functools
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Bool, Int64, String

from streams.errors import UsageProblem
from streams.sinks import feast_keys
from streams.sinks.feast import FEATURES, FeastSink
from streams.sinks.urls import make_sink
from streams.testing.audits import AuditTests
from streams.testing.output_log import Log, batch
from streams.testing.sinks import SinkTests
from streams.testing.store import Factory
from tests.servers import RedisServer, redis_server

PROJECT = "shop"
NOW = datetime.now(UTC)


class FeastStore:
    """A Redis with a Feast repository: our view, and `stats` of the platform's own."""

    def __init__(self, server: RedisServer, features: FeatureStore) -> None:
        self._server = server
        self.features = features
        self.client: Any = redis.Redis.from_url(server.url)

    @property
    def url(self) -> str:
        query = f"project={PROJECT}&entity=content_id&patrol_every_s=0"
        return f"feast+{self._server.url}?{query}"

    @property
    def make(self) -> Factory:
        return functools.partial(FeastSink, self.url)

    def usable(self) -> dict[str, dict[str, Any]]:
        head = feast_keys.key_head("content_id")
        found = self.client.scan_iter(match=feast_keys.glob_text(head) + b"*", count=1_000)
        ids = [feast_keys.entity_of(key, "content_id", PROJECT) for key in found]
        if not ids:
            return {}
        asked = [f"objections:{name}" for name in ("allowed", *FEATURES)]
        rows = self.read(asked, ids)
        return {each["content_id"]: each for each in rows if each["allowed"] is True}

    def read(self, features: list[str], ids: list[str]) -> list[dict[str, Any]]:
        """Return *features* of the items *ids*, as Feast reads them."""
        rows = [{"content_id": each} for each in ids]
        columns = self.features.get_online_features(features=features, entity_rows=rows).to_dict()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def views(self, content_id: str) -> int | None:
        """Return the feature of the platform's own view."""
        (row,) = self.read(["stats:views"], [content_id])
        found: int | None = row["views"]
        return found

    def materialize(self, at: datetime = NOW, **views: int) -> None:
        """Let Feast write the feature of items, computed from data of *at*."""
        rows = [{"content_id": k, "views": v, "event_timestamp": at} for k, v in views.items()]
        self.features.write_to_online_store("stats", df=pd.DataFrame(rows))

    def at_rest(self) -> Iterator[bytes]:
        for path in self._server.folder.rglob("*"):
            if path.is_file():
                yield path.read_bytes()

    def plant(self, row: Mapping[str, Any]) -> None:
        key = feast_keys.entity_key("content_id", row["content_id"], PROJECT)
        texts = {name: Value(string_val=row[name] or "") for name in FEATURES if row[name]}
        for name, value in {"allowed": Value(bool_val=True), **texts}.items():
            field = feast_keys.feature_field("objections", name)
            self.client.hset(key, field, value.SerializeToString())
        self.client.hset(key, "_ts:objections", feast_keys.time_stamp(int(NOW.timestamp())))

    def empty(self) -> None:
        self.client.flushall()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeastStore]:
    """Return a store whose repository was applied."""
    place = tmp_path_factory.mktemp("feast")
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--rdbcompression", "no")
    with redis_server(place / "redis", *durable) as server:
        address = server.url.removeprefix("redis://").removesuffix("/0")
        config = RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(place / "registry.db"),
            online_store={"type": "redis", "connection_string": address},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
        features = FeatureStore(config=config)
        entity = Entity(name="content_id", join_keys=["content_id"], value_type=ValueType.STRING)
        source = FileSource(path=str(place / "none.parquet"), timestamp_field="event_timestamp")
        texts = [Field(name=name, dtype=String) for name in FEATURES]
        key = Field(name="content_id", dtype=String)
        views = {
            "objections": [key, Field(name="allowed", dtype=Bool), *texts],
            "stats": [key, Field(name="views", dtype=Int64)],
        }
        pd.DataFrame(
            {"content_id": ["c"], "views": [1], "allowed": [True], "event_timestamp": [NOW]}
            | {name: [""] for name in FEATURES}
        ).to_parquet(place / "none.parquet")
        features.apply(
            [entity]
            + [
                FeatureView(
                    name=name, entities=[entity], schema=schema, source=source, ttl=timedelta(0)
                )
                for name, schema in views.items()
            ]
        )
        yield FeastStore(server, features)


@pytest.fixture
def store(whole: FeastStore) -> FeastStore:
    """Return it with nothing in it."""
    whole.empty()
    return whole


@pytest.fixture
def sink(store: FeastStore) -> Iterator[FeastSink]:
    """Return the sink, with three items of two accounts, of which Feast has features."""
    sink = FeastSink(store.url)
    sink.open()
    log = Log()
    log.user("u1", 1)
    log.user("u2", 1)
    for content_id, user_id in (("c1", "u1"), ("c2", "u1"), ("d1", "u2")):
        log.item(content_id, user_id, 1, 1)
    sink.apply(batch(log.changes))
    store.materialize(c1=1, c2=2, d1=3)
    yield sink
    sink.close()


class TestFeast(SinkTests, AuditTests):
    fields = FEATURES
    examples = 6
    steps = 10

    @pytest.fixture
    def store(self, whole: FeastStore) -> FeastStore:
        whole.empty()
        return whole


@pytest.mark.parametrize("content_id", ["c1", "", "ä" * 70, "x" * 300])
def test_keys_are_those_of_feast(content_id: str) -> None:
    """Entity keys, fields and time stamps are byte for byte what Feast writes."""
    entity = EntityKey(join_keys=["content_id"], entity_values=[Value(string_val=content_id)])

    key = feast_keys.entity_key("content_id", content_id, PROJECT)
    assert serialize_entity_key(entity, 3) + PROJECT.encode() == key
    assert content_id == feast_keys.entity_of(key, "content_id", PROJECT)
    assert _mmh3(f"stats:{content_id}") == feast_keys.feature_field("stats", content_id)


def test_a_tombstone_takes_the_features_of_all_views(store: FeastStore, sink: FeastSink) -> None:
    """A purged item has no feature left, in no view; others have theirs."""
    assert (1, 2, 3) == tuple(map(store.views, ("c1", "c2", "d1")))
    log = Log()

    sink.apply(batch([log.item("c1", "u1", 2, 1, allowed=False)]))

    assert (None, 2, 3) == tuple(map(store.views, ("c1", "c2", "d1")))
    assert {"c2", "d1"} == store.usable().keys()
    assert all(b"_ts:" in each for each in store.client.hkeys(_key("c1")))


def test_an_account_is_hidden_at_once_with_its_features(store: FeastStore, sink: FeastSink) -> None:
    """An account's tombstone hides the features of its items; its record shows them again."""
    log = Log()

    sink.apply(batch([log.user("u1", 2, allowed=False)]))
    assert (None, None, 3) == tuple(map(store.views, ("c1", "c2", "d1")))
    store.materialize(NOW + timedelta(hours=1), c1=9)
    assert store.views("c1") is None
    sink.apply(batch([log.item("c2", "u1", 2, 1, allowed=False)]))
    assert [f"{sink.prefix}hidden:c1".encode()] == store.client.keys("*:hidden:*")
    sink.apply(batch([log.user("u1", 3)]))

    assert (1, None, 3) == tuple(map(store.views, ("c1", "c2", "d1")))
    assert {"c1", "d1"} == store.usable().keys()


def test_what_is_materialized_later_stays_out(store: FeastStore, sink: FeastSink) -> None:
    """
    Feast drops what it is to write of a purged item, of one it never had, and of a locked one.
    """
    log = Log()
    purges = [log.item(name, "u1", 2, 1, allowed=False) for name in ("c1", "never")]
    log.item("early", "nobody", 1, 1)

    sink.apply(batch([*purges, log.changes[-1]]))
    for hours in (-1, 1):
        store.materialize(NOW + timedelta(hours=hours), c1=9, never=9, early=9)

        assert [None] * 3 == [store.views(each) for each in ("c1", "never", "early")]

    sink.apply(batch([log.item("c1", "u1", 3, 1)]))
    assert store.views("c1") is None
    store.materialize(c1=7)
    assert 7 == store.views("c1")


def test_the_patrol_purges_what_was_written_past_it(store: FeastStore, sink: FeastSink) -> None:
    """
    A writer that does not look at time stamps brings a purged item back until the next patrol.
    """
    log = Log()
    sink.apply(batch([log.item("c1", "u1", 2, 1, allowed=False)]))
    store.features.config.online_store.skip_dedup = True
    try:
        store.materialize(c1=9, unknown=5)
    finally:
        store.features.config.online_store.skip_dedup = False
    assert 9 == store.views("c1")

    assert 1 == sink.patrol(store.client)

    assert (None, 2, 5) == tuple(map(store.views, ("c1", "c2", "unknown")))
    assert {"c2", "d1"} == store.usable().keys(), "an unknown item is not said to be allowed"
    assert 0 == sink.patrol(store.client)


def test_a_url_that_says_too_little_is_refused() -> None:
    """Project and join key are needed; the message says what was expected."""
    with pytest.raises(UsageProblem, match=r"names no entity; expected .*entity=content_id"):
        make_sink("feast+redis://127.0.0.1:6379/0?project=shop")


def _key(content_id: str) -> bytes:
    return feast_keys.entity_key("content_id", content_id, PROJECT)
