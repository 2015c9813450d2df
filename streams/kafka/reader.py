"""
Consumers of those who look on: assigned by hand, they join no group and commit nothing.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.kafka.client_log import CLIENT_LOGGER
from streams.settings import Settings

BATCH_RECORDS: Final = 10_000
NO_LEADER_PAUSE_S: Final = 0.1
_NO_LEADER: Final = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
LOOK_BACK_RECORDS: Final = 64  # mostly control records lie behind the last one

T = TypeVar("T")
Place = tuple[str, int]  # a topic's full name, and a partition


def reader(
    settings: Settings,
    *,
    isolation: str = "read_committed",
    group: str | None = None,
    logger: logging.Logger = CLIENT_LOGGER,
    **options: object,
) -> Consumer:
    """
    Return a consumer that tells of the ends of partitions.

    group: may be asked for its offsets, and is never joined; the workers' by default.
    options: further ones of librdkafka, with `_` for `.`, or others in place of these.
    """
    ours: dict[str, object] = {
        "group_id": group or settings.group,
        "isolation_level": isolation,
        "enable_auto_commit": False,
        "enable_auto_offset_store": False,
        "enable_partition_eof": True,
        "auto_offset_reset": "earliest",
    }
    return Consumer(settings.kafka(**ours | options), logger=logger)


def fetch(consumer: Consumer, wait_s: float, records: int = BATCH_RECORDS) -> list[Message]:
    """
    Return what has arrived, *records* at most, or nothing after *wait_s*.

    `consume` alone would wait the whole time unless its count is full; `poll` does not.
    """
    first = consumer.poll(wait_s)
    return [] if first is None else [first, *consumer.consume(records - 1, 0)]


def back_from(low: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield spans of offsets from *end* back to *low*, to look for a last record: ever longer."""
    span = LOOK_BACK_RECORDS
    while end > low:
        begin = max(end - span, low)
        yield begin, end
        span, end = 16 * span, begin


class Silent(Exception):
    """Kafka has said nothing for long of *places*."""

    def __init__(self, places: list[Place]) -> None:
        super().__init__(f"partitions left: {places}")


def read_to_ends(
    consumer: Consumer, places: Iterable[Place], *, wait_s: float, silence_s: float
) -> Iterator[list[Message]]:
    """
    Yield the records that arrive until each of *places* has told of its end.

    Raises `Silent` after *silence_s* without a word, and KafkaException.
    """
    unread = set(places)
    heard_s = time.monotonic()
    while unread:
        messages = fetch(consumer, wait_s)
        if messages:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > silence_s:
            raise Silent(sorted(unread))
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard((message.topic() or "", message.partition() or 0))
            elif error.code() != KafkaError._TRANSPORT:  # it goes on, or falls silent
                raise KafkaException(error)
        if records:
            yield records


def committed(consumer: Consumer, places: Iterable[Place], wait_s: float) -> dict[Place, int]:
    """
    Return the offsets of the consumer's group, where it has any.

    To a reader of committed data the broker tells none while a transaction with offsets is open.
    Not by an admin client: librdkafka 2.16 crashes there when the coordinator has moved.  Raises
    KafkaException.
    """
    return told(consumer.committed([TopicPartition(*each) for each in places], wait_s))


def ends(consumer: Consumer, places: Iterable[Place], wait_s: float) -> dict[Place, int]:
    """
    Return the offsets behind the last records, as the consumer's isolation.level sees them.

    Not by an admin client: the first question of a new one is at times not answered (8 of 60 on a
    busy machine), and one that has seen a partition without a leader goes on saying so.  Raises
    KafkaException.
    """
    places = list(places)
    if not places:
        return {}  # the consumer would refuse the question
    asked = [TopicPartition(*each, OFFSET_END) for each in places]  # in place of an instant
    found = with_leaders(lambda left_s: told(consumer.offsets_for_times(asked, left_s)), wait_s)
    return dict.fromkeys(places, 0) | found


def extent(consumer: Consumer, place: Place, wait_s: float) -> tuple[int, int]:
    """
    Return where a partition begins and ends, as the consumer's isolation.level sees it.

    Raises KafkaException.
    """
    tp = TopicPartition(*place)
    found = with_leaders(lambda left_s: consumer.get_watermark_offsets(tp, left_s), wait_s)
    if found is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return found


def with_leaders(ask: Callable[[float], T], wait_s: float) -> T:
    """
    Return what *ask* returns, given the seconds that are left.

    A partition that was made just now may have no leader yet, or one that is taken for it may not
    know so: that is waited for.  Raises KafkaException.
    """
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            return ask(max(deadline_s - time.monotonic(), NO_LEADER_PAUSE_S))
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER or time.monotonic() > deadline_s:
                raise
            time.sleep(NO_LEADER_PAUSE_S)


def told(found: Iterable[TopicPartition]) -> dict[Place, int]:
    """Return the offsets in an answer, where there are any; raises KafkaException."""
    found = list(found)
    for tp in found:
        if tp.error is not None:
            raise KafkaException(tp.error)
    return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}
