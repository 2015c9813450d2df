"""
A thread that follows the outputs into one store, read_committed, and notes when purges arrived.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from streams.demo.store import Store
from streams.errors import CommandError
from streams.proof import Record
from streams.settings import Settings

BATCH_RECORDS: Final = 5_000
FOLLOWED: Final = ("training-users", "training-content")

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # librdkafka's lines; when Kafka goes, the worker tells


class Subscriber(threading.Thread):
    """
    Follows `training-users` and `training-content` into the store *name* at *path*.

    purged_ms: by place of a tombstone, when the store had applied it for good (wall clock).
    applied: records and tombstones applied.
    """

    def __init__(self, settings: Settings, partitions: int, name: str, path: Path) -> None:
        super().__init__(name=name, daemon=True)
        self.path = path
        self.purged_ms: dict[str, int] = {}
        self.applied = 0
        self._settings = settings
        self._partitions = partitions
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        Store(path, name).close()  # so that whoever looks finds it empty, not missing

    def check(self) -> None:
        """Raise CommandError when it cannot go on."""
        if self._failure is not None:
            raise CommandError(f"the subscriber of {self.name} ended: {self._failure!r}")

    def stop(self) -> None:
        """End it, and return when its file is closed."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Follow until stopped; what goes wrong is told by `check`."""
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001 - handed to the thread that asks
            self._failure = error

    def _follow(self) -> None:
        store = Store(self.path, self.name)
        consumer = Consumer(
            self._settings.kafka(
                group_id=f"{self._settings.topic_prefix}demo-{self.name}",
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            ),
            logger=logger,
        )
        try:
            positions = store.positions()
            tps = [(self._settings.topic(t), p) for t in FOLLOWED for p in range(self._partitions)]
            consumer.assign([TopicPartition(*each, positions.get(each, 0)) for each in tps])
            while not self._stopping.is_set():
                first = consumer.poll(0.1)
                if first is not None:
                    self._apply(store, [first, *consumer.consume(BATCH_RECORDS, 0)])
        finally:
            consumer.close()
            store.close()

    def _apply(self, store: Store, messages: list[Message]) -> None:
        records = [_record(message) for message in messages]
        users_topic = self._settings.topic("training-users")
        accounts = [each for each in records if each.topic == users_topic]
        items = [each for each in records if each.topic != users_topic]
        store.apply(accounts, items)
        now_ms = time.time_ns() // 1_000_000
        for record in records:
            if record.value is None:
                self.purged_ms[record.place] = now_ms
        self.applied += len(records)


def _record(message: Message) -> Record:
    error = message.error()
    if error is not None:
        raise KafkaException(error)
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Record(
        topic,
        partition,
        offset,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(message.headers() or ()),  # type: ignore[arg-type]
    )
