"""
What Kafka lets a user of tests/access_scene.py read and write, asked of it topic by topic.
"""

import time
from collections.abc import Iterable

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

import topics
from streams.kafka.reader import reader
from tests.access_scene import PARTITIONS, PREFIX, TABLE_PREFIX, Access
from tests.worker_settings import QUIET, WAIT_S


def readable(scene: Access, role: str) -> set[str]:
    """Return the topics of TABLE_PREFIX that *role* can read; each is heard of."""
    settings = scene.secured.settings(role, TABLE_PREFIX)
    consumer = Consumer(
        settings.kafka(
            group_id="unused",
            enable_auto_commit=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
        ),
        logger=QUIET,
    )
    names = {settings.topic(name): name for name in topics.names()}
    said: dict[str, bool] = {}
    for full, name in names.items():  # of what it may not even see nothing more is said
        error = consumer.list_topics(full, timeout=WAIT_S).topics[full].error
        if error is not None:
            assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
            said[name] = False
    seen = [full for full, name in names.items() if name not in said]
    consumer.assign([TopicPartition(full, 0, OFFSET_BEGINNING) for full in seen])
    deadline_s = time.monotonic() + WAIT_S
    try:
        while len(said) < len(names):
            assert time.monotonic() < deadline_s, f"nothing heard of {names.keys() - said.keys()}"
            message = consumer.poll(0.5)
            if message is None or message.topic() not in names:
                continue
            error = message.error()
            denied = error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
            assert error is None or denied or error.code() == KafkaError._PARTITION_EOF, error
            said[names[message.topic() or ""]] = not denied
    finally:
        consumer.close()
    return {name for name, is_let in said.items() if is_let}


def writable(scene: Access, role: str) -> set[str]:
    """Return the topics of TABLE_PREFIX that take a record of *role*; each has answered."""
    settings = scene.secured.settings(role, TABLE_PREFIX)
    producer = Producer(settings.kafka(acks="all"), logger=QUIET)
    said: dict[str, KafkaError | None] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        said[(message.topic() or "").removeprefix(TABLE_PREFIX)] = error

    for name in topics.names():
        producer.produce(settings.topic(name), b"{}", b"k", 0, on_delivery=delivered)
    producer.flush(WAIT_S)
    assert set(topics.names()) == said.keys()
    codes = {error.code() for error in said.values() if error is not None}
    assert codes <= {KafkaError.TOPIC_AUTHORIZATION_FAILED}, said
    return {name for name, error in said.items() if error is None}


def read_all(scene: Access, role: str, names: Iterable[str]) -> dict[tuple[str, str], bytes | None]:
    """Return the last value of each key of the topics *names* of PREFIX, as *role* reads them."""
    settings = scene.secured.settings(role, PREFIX)
    consumer = reader(settings, logger=QUIET)
    full = {settings.topic(name): name for name in names}
    places = [
        TopicPartition(each, number, OFFSET_BEGINNING)
        for each in full
        for number in range(PARTITIONS)
    ]
    consumer.assign(places)
    found: dict[tuple[str, str], bytes | None] = {}
    ended = 0
    deadline_s = time.monotonic() + WAIT_S
    while ended < len(places):
        assert time.monotonic() < deadline_s
        message = consumer.poll(0.5)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended += 1
            continue
        key = message.key()
        assert isinstance(key, bytes)
        found[full[message.topic() or ""], key.decode()] = message.value()
    consumer.close()
    return found
