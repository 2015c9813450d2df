"""
What a reader of uncommitted data ends with, beside what a reader of committed data does.
"""

from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.kafka.local import LocalKafka
from streams.proof import OUTPUTS
from streams.worker.unanswered import Said, read
from tests.worker_settings import QUIET, settings_of, wait_for

Key = tuple[str, bytes]
Last = tuple[str, int, int]  # topic, partition, offset


def assert_uncommitted_ends_alike(kafka: LocalKafka, prefix: str) -> None:
    """
    Both readers end with the same record of each key, and with the same one remembered.

    By the log a reader keeps the last record; one that remembers the highest (epoch, revision)
    drops what is lower, and at an equal pair a tombstone wins.
    """

    def differences() -> list[str]:
        committed = _read(kafka, prefix, "read_committed")
        everything = _read(kafka, prefix, "read_uncommitted")
        return [
            f"{key}: uncommitted {everything[key]}, committed {committed.get(key)}"
            for key in everything
            if everything[key] != committed.get(key)
        ]

    left: list[str] = []

    def alike() -> bool:
        left[:] = differences()
        return not left

    try:
        wait_for(alike, "readers of uncommitted data to end in the same state")
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *left[:20]])) from None


def _read(kafka: LocalKafka, prefix: str, level: str) -> dict[Key, tuple[Last, bool]]:
    """Return of each key the last record, and whether the highest-ranking one is a tombstone."""
    settings = settings_of(kafka, prefix)
    consumer = Consumer(
        settings.kafka(
            group_id=settings.group,  # never joined
            isolation_level=level,
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
        ),
        logger=QUIET,
    )
    names = {settings.topic(name) for name in OUTPUTS}
    known = consumer.list_topics(timeout=10).topics
    places = [(name, number) for name in names for number in known[name].partitions]
    consumer.assign([TopicPartition(name, number, 0) for name, number in places])
    left = set(places)
    lasts: dict[Key, Last] = {}
    highest: dict[Key, Said] = {}
    while left:
        for message in consumer.consume(5_000, 0.1):
            place: Any = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(place)
                continue
            raw: Any = message.key(), message.value(), message.headers(), message.offset()
            key, value, headers, offset = raw
            said = read(value, headers)
            assert said is not None, f"{place}/{offset}: not an output"
            lasts[place[0], key] = (*place, offset)
            if (before := highest.get((place[0], key))) is None or said.outranks(before):
                highest[place[0], key] = said
    consumer.close()
    return {key: (last, highest[key].tombstone) for key, last in lasts.items()}
