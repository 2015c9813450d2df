"""
Outputs without a worker, and stores that follow them: what tests of the subscriber share.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # they are public
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams.core.receipts import PurgeAck
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.sinks.sink import Change, Place, Sink
from streams.sinks.sqlite import SqliteSink
from streams.subscriber import Subscriber
from streams.testing.output_log import PARTITIONS, Log, Model, Seen, seen
from tests.test_sink_sqlite import SqliteStore
from tests.worker_settings import QUIET, WAIT_S, apply_topics, settings_of, wait_for

STORE: Final = "feature-store"
FOLLOWED: Final = ("training-users", "training-content")


class Said(NamedTuple):
    """An acknowledgement as it lies in the log."""

    place: Place
    phase: str
    offset: int


class Outputs:
    """
    Topics of their own, and a producer that writes changes in transactions as the worker does.

    log: what was written; make changes with it, then `send`.
    """

    def __init__(self, kafka: LocalKafka, prefix: str, retention_ms: int | None = None) -> None:
        self.kafka = kafka
        self.settings = settings_of(kafka, prefix)
        self.log = Log()
        self._sent = 0
        self._ends: Counter[Place] = Counter()
        apply_topics(kafka, prefix, PARTITIONS)
        if retention_ms is not None:
            self._retain(retention_ms)
        self._producer = Producer(
            self.settings.kafka(transactional_id=f"{prefix}tests", partitioner="murmur2_random"),
            logger=QUIET,
        )
        self._producer.init_transactions(WAIT_S)

    def send(self, *, commit: bool = True) -> None:
        """Write what was added to the log, in one transaction."""
        written: Counter[Place] = Counter()
        self._producer.begin_transaction()
        for change in self.log.changes[self._sent :]:
            self._producer.produce(
                self.settings.topic(change.topic),
                key=change.key,
                value=None if change.value is None else msgspec.json.encode(change.value),
                partition=change.partition,
                headers=_headers(change),
            )
            written[Place(change.topic, change.partition)] += 1
        if commit:
            self._producer.commit_transaction(WAIT_S)
            self._sent = len(self.log.changes)
        else:
            self._producer.flush(WAIT_S)
            self._producer.abort_transaction(WAIT_S)
            del self.log.changes[self._sent :]
        # The transaction's last records, one in each partition, are written after it is answered.
        self._ends.update({place: count + 1 for place, count in written.items()})
        wait_for(self._has_ended, "the transaction's end")

    def _has_ended(self) -> bool:
        try:
            return self.ends().items() >= self._ends.items()
        except KafkaException:  # a partition without a leader yet: the topics were made just now
            return False

    def ends(self) -> dict[Place, int]:
        """Return where the logs end, control records included."""
        found = {}
        with _reader(self) as consumer:
            for name in FOLLOWED:
                for number in range(PARTITIONS):
                    topic = TopicPartition(self.settings.topic(name), number)
                    end = consumer.get_watermark_offsets(topic, timeout=WAIT_S)[1]
                    found[Place(name, number)] = end
        return found

    def said(self, store: str = STORE) -> list[Said]:
        """Return all acknowledgements of *store*, in the log's order."""
        topic = TopicPartition(self.settings.topic("purge-acks"), 0, 0)
        found: list[tuple[str, Said]] = []
        with _reader(self) as consumer:
            end = consumer.get_watermark_offsets(topic, timeout=WAIT_S)[1]
            consumer.assign([topic])
            while len(found) < end:
                message = consumer.poll(WAIT_S)
                assert message is not None
                assert message.error() is None
                ack = msgspec.json.decode(message.value() or b"", type=PurgeAck)
                assert ack.key.encode() == message.key()
                name = ack.topic.removeprefix(self.settings.topic_prefix)
                found.append((ack.store, Said(Place(name, ack.partition), ack.phase, ack.offset)))
        return [each for name, each in found if name == store]

    def acknowledged(self, phase: str, store: str = STORE) -> dict[Place, int]:
        """Return what *store* last said of each place."""
        return {each.place: each.offset for each in self.said(store) if each.phase == phase}

    def usable(self) -> Seen:
        """Return what a store must show that has read all of it."""
        model = Model()
        model.apply(self.log.changes)
        return model.usable()

    def _retain(self, retention_ms: int) -> None:
        resources = [
            ConfigResource(ResourceType.TOPIC, self.settings.topic(name)) for name in FOLLOWED
        ]
        for resource in resources:
            entry = ConfigEntry(
                "delete.retention.ms",
                str(retention_ms),
                incremental_operation=AlterConfigOpType.SET,
            )
            resource.add_incremental_config(entry)
        client = admin.connect(self.settings)
        for future in client.incremental_alter_configs(resources).values():
            future.result(WAIT_S)
        wait_for(
            lambda: all(
                admin.look(client, self.settings).topics[name].config["delete.retention.ms"]
                == str(retention_ms)
                for name in FOLLOWED
            ),
            "the topics' retention",
        )


class Running:
    """A subscriber in a thread; ends with the block, and tells what it raised."""

    def __init__(self, outputs: Outputs, sink: Sink, store: str = STORE, **options: Any) -> None:
        self.subscriber = Subscriber(sink, store, settings=outputs.settings, **options)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Return when it is ready."""
        wait_for(lambda: self.subscriber.ready or self.error is not None, "a ready subscriber")
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End it in order."""
        self.subscriber.stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the subscriber does not end"
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.subscriber.run()
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            self.error = error


class SqliteScene:
    """A store in a file that follows *outputs*."""

    def __init__(self, outputs: Outputs, path: Path) -> None:
        self.outputs = outputs
        self.path = path
        self.raw = SqliteStore(path)

    def sink(self, erase_every_s: float = 0.2) -> SqliteSink:
        """Return a sink on the store."""
        return SqliteSink(self.path, erase_every_s=erase_every_s)

    def once(self, **options: Any) -> int:
        """Follow up to the end of now; return how many changes were applied."""
        subscriber = Subscriber(self.sink(), STORE, settings=self.outputs.settings, **options)
        subscriber.run(once=True)
        return subscriber.progress().applied

    def usable(self) -> Seen:
        """Return what can be found in it."""
        return seen(self.raw.usable())

    def wait_until_equal(self) -> None:
        """Return when it shows exactly what it must."""
        wait_for(lambda: self.usable() == self.outputs.usable(), "the store to hold what it must")


@contextmanager
def _reader(outputs: Outputs) -> Iterator[Consumer]:
    consumer = Consumer(
        outputs.settings.kafka(
            group_id=f"tests-{time.time_ns()}",
            enable_auto_commit=False,
            isolation_level="read_committed",
        ),
        logger=QUIET,
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _headers(change: Change) -> list[tuple[str, str | bytes | None]]:
    headers: list[tuple[str, str | bytes | None]] = [
        ("ce_subject", change.user_id),
        ("objections_epoch", str(change.epoch)),
        ("objections_received_at", str(change.received_ms)),
    ]
    if change.topic == "training-content":
        headers.append(("objections_revision", str(change.revision)))
    return headers
