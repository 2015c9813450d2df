"""
What an audit asks of a sink, as tests: subclass `AuditTests` beside `SinkTests`.

    class TestMySink(SinkTests, AuditTests):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)  # an `AuditedStore`

The store is filled from an invented log, changed past the sink, and audited against that log.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import numpy as np
import pytest

from streams.audit.findings import Report
from streams.audit.look import Store
from streams.audit.run import Audit, Wanted
from streams.audit.tables import RECORD, Records, Rows, fields_of, hashes_of
from streams.audit.topics import TOPICS, Topics
from streams.settings import Settings
from streams.sinks.contents import FIELDS, AuditedSink, Remembered
from streams.sinks.sink import TRAINING_CONTENT, TRAINING_USERS, Batch, Change, Place
from streams.testing.output_log import (
    PARTITIONS,
    PRODUCT,
    TOPIC_ID,
    Log,
    Model,
    batch,
    invent,
    partition_of,
    seen,
)
from streams.testing.store import StoreUnderTest, opened
from streams.training.positions import Positions, TopicPosition

SETTLED: Final = 2  # a generation without a resync under way


class AuditedStore(StoreUnderTest, Protocol):
    """A store that can be changed past its sink."""

    def plant(self, row: Mapping[str, Any]) -> None:
        """
        Let readers find an item, whatever the sink knows of it.

        row: `content_id`, FIELDS, and `partition`, where all of its user lies.
        """


class LogTopics(Topics):
    """The topics of an audit, out of a log in memory; read on, it has what was added."""

    def __init__(self, log: Sequence[Change], fields: Sequence[str]) -> None:
        self.records = {name: Records() for name in TOPICS}
        self.oldest_unerased_ms = {}
        self.pseudonyms = False
        self._log = log
        self._names = fields
        self.read_on()

    def read_on(self) -> None:
        ends = {Place(name, number): 0 for name in TOPICS for number in range(PARTITIONS)}
        for topic, records in self.records.items():
            changes = [each for each in self._log if each.topic == topic]
            ends.update({Place(topic, each.partition): each.offset + 1 for each in changes})
            records.put(_rows(changes, self._names))
            records.settle()
        topics = {
            name: TopicPosition(
                name, TOPIC_ID, [ends[Place(name, n)] for n in range(PARTITIONS)], 86_400_000
            )
            for name in TOPICS
        }
        self.ends = Positions("none", 0, topics)

    def changes(self, topic: str, rows: Rows) -> list[Change]:
        places = set(zip(rows["partition"].tolist(), rows["offset"].tolist(), strict=True))
        return [e for e in self._log if e.topic == topic and (e.partition, e.offset) in places]


def _rows(changes: Sequence[Change], fields: Sequence[str]) -> Rows:
    rows = np.zeros(len(changes), RECORD)
    rows["high"], rows["low"] = hashes_of(each.key for each in changes)
    for name in ("epoch", "revision", "offset", "partition"):
        rows[name] = [getattr(each, name) for each in changes]
    rows["purged"] = [each.value is None for each in changes]
    for row, each in zip(rows, changes, strict=True):
        if each.topic == TRAINING_CONTENT and each.value is not None:
            row["fields"] = fields_of(each.value[name] for name in fields)
            account = hashes_of([f"{each.value['product']}/{each.user_id}"])
            row["account_high"], row["account_low"] = account.high[0], account.low[0]
    return rows


def audited(sink: AuditedSink, log: Log, *, repairing: bool = False) -> Report:
    """Return the report on *sink*, which is open, against all of *log*."""
    store = Store(sink, Settings(), None, lambda _: None)
    wanted = Wanted("the store", None, repairing=repairing)

    def read(*_: Any) -> Topics:
        return LogTopics(log.changes, sink.fields)

    return Audit(store, wanted, lambda _: None, read).run()


def settled(changes: Sequence[Change]) -> Batch:
    """Return *changes* as a subscriber hands them on that is in no resync."""
    return batch(changes, generation=SETTLED)


def named(report: Report) -> set[tuple[str, str]]:
    """Return the kinds and keys of the findings about items."""
    return {(each.kind, each.key) for each in report.findings if each.topic == TRAINING_CONTENT}


class AuditTests:
    """What `streams.sinks.contents` asks of a sink."""

    @pytest.fixture
    def store(self) -> AuditedStore:
        raise NotImplementedError("a subclass of AuditTests needs the fixture `store`")

    def test_shown_and_remembered(self, store: AuditedStore) -> None:
        """
        What is shown is what readers find, and every pair applied is remembered; an audit of a
        store that holds what it must finds nothing.
        """
        log = Log()
        invent(log, 150, seed=11)
        with audited_sink(store) as sink:
            sink.apply(settled(log.changes))
            shown = [row for page in sink.shown() for row in page]
            values = {
                row.content_id: dict(zip(sink.fields, row.values, strict=True)) for row in shown
            }
            only = [FIELDS.index(name) for name in sink.fields]
            model = Model()
            model.apply(log.changes)
            wanted = model.usable()

            assert _chosen(wanted, only) == _chosen(seen(values), only)
            if remembered := list(sink.remembered()):
                assert _ranks(model) == _remembered(remembered)
            report = audited(sink, log)
            assert 0 == report.found, report.findings
            assert (0, 0, []) == (report.late, report.on_their_way, report.lag)

    def test_planted_items(self, store: AuditedStore) -> None:
        """
        Items planted in the store are found whatever the sink remembers of them: purged ones, those
        of a locked account, unknown ones, other fields than the topic's.  Mended, they are gone.
        """
        log = Log()
        for name in ("u1", "u2"):
            log.user(name, 1)
        for name in ("kept", "wrong", "purged"):
            log.item(name, "u1", 1, 1)
        log.item("purged", "u1", 2, 1, allowed=False)
        log.item("locked", "u2", 1, 1)
        log.user("u2", 3, allowed=False)
        with audited_sink(store) as sink:
            sink.apply(settled(log.changes))
            store.plant(planted("purged", "u1"))
            store.plant(planted("locked", "u2"))
            store.plant(planted("never", "u1"))
            before = set(store.usable())
            assert {"kept", "purged", "never"} <= before
            store.plant(planted("wrong", "u1", language="xx"))

            found = named(audited(sink, log))
            # Some stores join the account at each query: there the item stays hidden.
            locked = {("forbidden", "locked")} if "locked" in before else set()
            assert {
                ("forbidden", "purged"),
                ("unknown", "never"),
                ("outdated", "wrong"),
                *locked,
            } == {each for each in found if each[0] != "memory"}

            mended = audited(sink, log, repairing=True)
            assert mended.mended is not None
            assert mended.found == sum(mended.mended.values()), mended
            assert 0 == audited(sink, log).found
            assert {"kept", "wrong"} == set(store.usable())
            # What was purged stays purged, whatever is replayed.
            sink.apply(settled(log.changes))
            assert {"kept", "wrong"} == set(store.usable())

    def test_what_is_missing_or_forgotten(self, store: AuditedStore) -> None:
        """
        What the store has lost, forgotten or put too high is found and brought back, so that
        replays bring back nothing that was purged and later purges count.
        """
        log = Log()
        log.user("u1", 1)
        for name in ("kept", "lost", "high", "old"):
            log.item(name, "u1", 1, 1)
        first = list(log.changes)
        log.item("old", "u1", 2, 5, allowed=False)
        with audited_sink(store) as sink:
            sink.apply(settled(log.changes))
            sink.expel(TRAINING_CONTENT, [("lost", f"{PRODUCT}/u1"), ("old", "")])
            high = log.changes[3]._replace(epoch=99)
            value = {**(high.value or {}), "epoch": 99}
            sink.apply(Batch([high._replace(value=value)], settled([high]).reached))
            assert {"kept", "high"} == set(store.usable())
            remembers = any(part.keys for part in sink.remembered())

            found = named(audited(sink, log))
            assert ("missing", "lost") in found
            if remembers:
                assert {("missing", "lost"), ("memory", "high"), ("memory", "old")} == found
            assert not audited(sink, log).failed

            audited(sink, log, repairing=True)
            assert 0 == audited(sink, log).found
            sink.apply(settled(first))
            assert {"kept", "lost", "high"} == set(store.usable())
            sink.apply(settled([log.item("high", "u1", 2, 1, allowed=False)]))
            assert {"kept", "lost"} == set(store.usable())

    def test_an_account_that_was_let_go(self, store: AuditedStore) -> None:
        """
        Without its account's record an item is not found; the audit brings both back.
        """
        log = Log()
        log.user("u1", 1)
        log.item("c1", "u1", 1, 1)
        with audited_sink(store) as sink:
            sink.apply(settled(log.changes))
            sink.expel(TRAINING_USERS, [(f"{PRODUCT}/u1", "")])
            assert {} == store.usable()

            report = audited(sink, log, repairing=True)
            assert ("missing", "c1") in named(report)
            assert {"c1"} == set(store.usable())
            assert 0 == audited(sink, log).found


def planted(content_id: str, user_id: str, **fields: Any) -> dict[str, Any]:
    """Return an item to plant."""
    return {
        "content_id": content_id,
        "user_id": user_id,
        "revision": 1,
        "product": PRODUCT,
        "kind": "post",
        "modality": "text",
        "language": "de",
        "created_at": "2026-04-15T09:00:00Z",
        "partition": partition_of(user_id),
        **fields,
    }


@contextmanager
def audited_sink(store: AuditedStore) -> Iterator[AuditedSink]:
    """Return a sink that is open and can be audited."""
    with opened(store) as sink:
        assert isinstance(sink, AuditedSink), f"{type(sink).__name__} lacks methods of AuditedSink"
        yield sink


def _chosen(rows: Mapping[str, tuple[Any, ...]], columns: Sequence[int]) -> dict[str, Any]:
    return {key: tuple(row[column] for column in columns) for key, row in rows.items()}


Ranks = dict[tuple[str, int, int], tuple[int, int, bool]]


def _remembered(parts: Sequence[Remembered]) -> Ranks:
    ranks: Ranks = {}
    for part in parts:
        high, low = (half.tolist() for half in hashes_of(part.keys))
        columns = (high, low, part.epochs, part.revisions, map(bool, part.allowed))
        ranks |= {
            (part.topic, one, other): (epoch, revision, allowed)
            for one, other, epoch, revision, allowed in zip(*columns, strict=True)
        }
    return ranks


def _ranks(model: Model) -> Ranks:
    keys = list(model.rows)
    hashes = hashes_of(key for _, key in keys)
    return {
        (topic, high, low): (change.epoch, change.revision, change.value is not None)
        for (topic, _), high, low, (change, _) in zip(
            keys, hashes.high.tolist(), hashes.low.tolist(), model.rows.values(), strict=True
        )
    }
