"""
Reads the ends of a partition's outputs: where their last records are, and what stores still owe.

A log's end lies behind control records, which no store has to acknowledge: what counts is the last
record.  Of what was published before this worker came, the last thousands are looked at one by one;
of a store that is further behind, only its first record is, to know how old it is.
"""

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.core.levels import Ack
from streams.core.receipts import FOLLOWED, Offsets
from streams.kafka.reader import extent, fetch, reader
from streams.settings import Settings
from streams.worker.receipt_notes import Following

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

BACKLOG_RECORDS: Final = 5_000  # looked at, behind the end of each output
LOOK_BACK_RECORDS: Final = 64  # for the last record, and 16 times as far while there is none
POLL_S: Final = 0.2
SILENT_POLLS: Final = 50
ASK_TIMEOUT_S: Final = 2.0
AGAIN_S: Final = 1.0


class Found(NamedTuple):
    """
    A record: the offset behind it, when it was appended, and the cause's time if it purges.

    Here a purge by the clock or a policy cannot be told from others: it counts from its instant.
    """

    end: int
    appended_ms: int
    received_ms: int | None


class Tail(NamedTuple):
    """Where the last records of the outputs end, and the records found, by topic's index."""

    ends: Offsets
    found: tuple[list[Found], ...]


class Tails:
    """Reads tails, one after the other; stops soon once *stopping* is set."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._consumer = reader(settings, fetch_wait_max_ms=50)

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def read(self, number: int, acks: Iterable[Ack]) -> Tail | None:
        """Return the tail of partition *number*; None once stopped."""
        levels = self._levels(acks)
        while not self._stopping.is_set():
            try:
                founds = tuple(
                    self._read(TopicPartition(self._settings.topic(name), number), levels[index])
                    for index, name in enumerate(FOLLOWED)
                )
            except KafkaException as error:
                logger.warning("the ends of outputs/%d: %s", number, error.args[0].str())
                self._stopping.wait(AGAIN_S)
                continue
            finally:
                self._consumer.unassign()
            eligibility, users, content = (found[-1].end if found else 0 for found in founds)
            return Tail((eligibility, users, content), founds)
        return None

    def _levels(self, acks: Iterable[Ack]) -> list[int | None]:
        """Return what all stores have applied, by topic's index; None where nobody follows."""
        known = {(ack.store, ack.topic, ack.phase): ack.offset for ack in acks}
        levels: list[int | None] = [None] * len(FOLLOWED)
        for store in self._settings.stores:
            for topic in map(FOLLOWED.index, store.topics):
                for phase in Following.of(store).phases:
                    level = known.get((store.name, topic, phase), 0)
                    before = levels[topic]
                    levels[topic] = level if before is None else min(level, before)
        return levels

    def _read(self, place: TopicPartition, level: int | None) -> list[Found]:
        low, end = extent(self._consumer, (place.topic, place.partition), ASK_TIMEOUT_S)
        back = LOOK_BACK_RECORDS
        start = end - back if level is None else min(end - back, max(level, end - BACKLOG_RECORDS))
        while True:
            start = max(start, low)
            records = self._from(place, start, end)
            if records or start <= low or self._stopping.is_set():
                break
            back *= 16
            start = end - back
        if level is not None and max(level, low) < start:
            first = self._from(place, max(level, low), start, limit=1)
            # As far as the ones in between are concerned: they are as old as the first of them.
            records[:0] = [Found(start, each.appended_ms, None) for each in first]
        return records

    def _from(
        self, place: TopicPartition, start: int, end: int, limit: int | None = None
    ) -> list[Found]:
        """Return committed records from *start* up to *end*, the first *limit* of them."""
        if start >= end:
            return []
        self._consumer.assign([TopicPartition(place.topic, place.partition, start)])
        records: list[Found] = []
        silent = 0
        while not self._stopping.is_set():
            messages = fetch(self._consumer, POLL_S, BACKLOG_RECORDS)
            if not messages:
                silent += 1
                if silent > SILENT_POLLS:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
                continue
            for message in messages:
                offset, error = message.offset(), message.error()
                if message.topic() != place.topic or message.partition() != place.partition:
                    continue
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if error is not None or offset is None or offset >= end:
                    return records
                records.append(_found(message, offset))
                if len(records) == limit or offset + 1 == end:
                    return records
        return records


def _found(message: "Message", offset: int) -> Found:
    received_ms = None
    if message.value() is None:
        text = dict(message.headers() or ()).get("objections_received_at")
        received_ms = None if text is None else int(text)
    return Found(offset + 1, message.timestamp()[1], received_ms)
