"""
Whole topics as plain records, as a read_committed reader sees them.
"""

import logging
import time
import uuid
from collections.abc import Iterable
from typing import Final, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.errors import Unreachable
from streams.kafka.reader import extent, fetch, reader
from streams.settings import Settings

# The contract's inputs, and what a cluster may do without: links of accounts, and what owners of
# partitions have told each other because of them.
INPUTS: Final = (
    "objections",
    "account-ages",
    "notices",
    "account-links",
    "objections-links",
    "content",
)
OPTIONAL: Final = ("account-links", "objections-links")
OUTPUTS: Final = ("eligibility", "training-users", "training-content")

ANSWER_TIMEOUT_S: Final = 30.0  # without a word from Kafka, reading ends
POLL_S: Final = 0.5

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # librdkafka's own lines; our error says it once


class Record(NamedTuple):
    """One record of a topic (its full name); a value of None is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def key_text(self) -> str:
        """The key for people and for comparing; bytes that are no UTF-8 are escaped."""
        return "" if self.key is None else self.key.decode(errors="backslashreplace")

    @property
    def place(self) -> str:
        """Where the record stands: "topic/partition/offset"."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name: str) -> bytes | None:
        """Return the last value of header *name*."""
        return dict(self.headers).get(name)


def compacted(records: Iterable[Record]) -> dict[str, Record]:
    """Return the last record of each key, tombstones included, as compaction would leave them."""
    return {each.key_text: each for each in sorted(records, key=_log_order)}


def _log_order(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def read(settings: Settings, names: Iterable[str]) -> dict[str, list[Record]]:
    """
    Return all committed records of topics *names* (as in the contract) up to their ends of now.

    Records of a partition are in the order of their offsets.  What a transaction still open at
    the moment of reading holds back is left out.  Of a topic that a cluster may do without there
    may be none.  Raises Unreachable.
    """
    full_names = {settings.topic(name): name for name in names}
    found: dict[str, list[Record]] = {name: [] for name in full_names.values()}
    consumer = reader(settings, group=f"proof-{uuid.uuid4().hex}", logger=logger)
    try:
        ends = _ends(consumer, _present(consumer, full_names))
        consumer.assign([TopicPartition(*each, OFFSET_BEGINNING) for each in ends])
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while ends:
            messages = fetch(consumer, POLL_S)
            if messages:
                deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
            elif time.monotonic() > deadline_s:
                raise Unreachable(_silent(settings, f"partitions left: {sorted(ends)}"))
            for message in messages:
                _take(message, full_names, ends, found)
    except KafkaException as error:
        raise Unreachable(_silent(settings, str(error))) from error
    finally:
        consumer.close()
    return found


def _present(consumer: Consumer, full_names: dict[str, str]) -> list[str]:
    """Return the topics to read; those that must be there are, or else are found missing later."""
    known = consumer.list_topics(timeout=ANSWER_TIMEOUT_S).topics
    return [full for full, name in full_names.items() if name not in OPTIONAL or full in known]


def _ends(consumer: Consumer, full_names: Iterable[str]) -> dict[tuple[str, int], int]:
    """Return the end of every partition that holds anything."""
    ends = {}
    for full_name in full_names:
        metadata = consumer.list_topics(full_name, timeout=ANSWER_TIMEOUT_S).topics[full_name]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        for number in metadata.partitions:
            _, end = extent(consumer, (full_name, number), ANSWER_TIMEOUT_S)
            if end > 0:
                ends[full_name, number] = end
    return ends


def _take(
    message: Message,
    full_names: dict[str, str],
    ends: dict[tuple[str, int], int],
    found: dict[str, list[Record]],
) -> None:
    """Keep *message*, or note that its partition has been read to the end."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    error = message.error()
    if error is not None:
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        ends.pop((topic or "", partition if partition is not None else -1), None)
        return
    assert topic is not None
    assert partition is not None
    assert offset is not None
    end = ends.get((topic, partition))
    if end is None:
        return
    if offset < end:
        found[full_names[topic]].append(record_of(message))
    if offset >= end - 1:
        del ends[topic, partition]


def record_of(message: Message) -> Record:
    """Return a *message* that was read as a record."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    key, value, headers = message.key(), message.value(), tuple(message.headers() or ())
    return Record(topic, partition, offset, message.timestamp()[1], key, value, headers)  # type: ignore[arg-type]


def _silent(settings: Settings, why: str) -> str:
    return (
        f"Kafka at {settings.bootstrap} did not let its topics be read to their ends ({why}). "
        "Remedy: see that it is up and has the topics: `objections topics check`."
    )
