"""
Reads what was committed in one partition, at take-over: up to a fixed end, or until it is lost.
"""

import logging
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streams.errors import Halt
from streams.kafka.denied import denied, is_denied
from streams.kafka.reader import Place, fetch
from streams.settings import Settings
from streams.worker.takeover import Cancelled, know

logger = logging.getLogger(__name__)

READ_TIMEOUT_S: Final = 0.2  # of one read: how late a cancellation may be noticed


def committed(
    settings: Settings,
    consumer: Consumer,
    place: Place,
    begin: int,
    end: int,
    cancelled: threading.Event,
) -> Generator[Message]:
    """
    Yield the records of *place* from *begin* up to *end*, once what is open there is decided.

    Raises Cancelled once that is set, and Halt where Kafka refuses.
    """
    if begin >= end:
        return
    name, number = place
    know(consumer, name)
    consumer.assign([TopicPartition(name, number, begin)])
    at = begin
    try:
        while at < end:
            if cancelled.is_set():
                raise Cancelled
            for message in fetch(consumer, READ_TIMEOUT_S):
                offset, error = message.offset(), message.error()
                if (message.topic(), message.partition()) != place or offset is None:
                    continue  # the tail of what was read before
                if error is None:
                    if offset >= end:
                        return
                    at = offset + 1
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    at = offset
                else:
                    _judge(settings, place, error)
    finally:
        consumer.unassign()


def _judge(settings: Settings, place: Place, error: KafkaError) -> None:
    """Raise Halt where nothing is to be had of *place*; else it passes."""
    name, number = place
    if is_denied(error):
        raise Halt(denied(settings, error, f"reading {name}"))
    if error.fatal():
        raise Halt(f"reading {name}/{number}: {error.str()}")
    logger.info("reading %s/%d: %s", name, number, error.str())


def first_committed(
    settings: Settings, consumer: Consumer, place: Place, end: int, cancelled: threading.Event
) -> Message | None:
    """Return the first of the records that `committed` yields; None where there is none."""
    with closing(committed(settings, consumer, place, 0, end, cancelled)) as records:
        return next(records, None)
