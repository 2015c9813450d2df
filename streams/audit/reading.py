"""Reads committed records of topics from one offset to another; joins no group, writes nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import CheckFailed, Unreachable
from streams.kafka.denied import denied, is_denied
from streams.kafka.reader import back_from, extent, fetch, reader
from streams.settings import Settings

ANSWER_S: Final = 15.0
READ_S: Final = 0.2  # of one read: how late Ctrl-C may be noticed
SILENCE_S: Final = 30.0  # without a word from Kafka

Say = Callable[[str], None]


class Range(NamedTuple):
    """The offsets of a partition: of its first record, and behind its last."""

    low: int
    end: int


class Log:
    """The logs of a cluster; *say* is told a passing line.  Raises Unreachable and CheckFailed."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._told_s = 0.0
        self._consumer: Consumer = reader(
            settings,
            fetch_wait_max_ms=50,
            fetch_queue_backoff_ms=2,
            queued_max_messages_kbytes=64_000,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def range(self, topic: str, number: int) -> Range:
        """Return where *topic*, named as in the contract, begins and ends in a partition."""
        name = self._settings.topic(topic)
        try:
            return Range(*extent(self._consumer, (name, number), ANSWER_S))
        except KafkaException as error:
            raise self._failure(error.args[0], name) from error

    def read(self, topic: str, number: int, begin: int, end: int) -> Iterator[Message]:
        """Yield the records of a partition from *begin* up to *end*."""
        if begin >= end:
            return
        name = self._settings.topic(topic)
        self._consumer.assign([TopicPartition(name, number, begin)])
        try:
            for message in self._arriving(name):
                offset, error = message.offset(), message.error()
                if (message.topic(), message.partition()) != (name, number) or offset is None:
                    continue
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise self._failure(error, name)
                if error is not None or offset >= end:
                    return
                yield message
                if offset + 1 == end:
                    return
                self._tell(f"{name}/{number}: {offset:,} of {end:,}")
        finally:
            self._consumer.unassign()

    def _arriving(self, name: str) -> Iterator[Message]:
        heard_s = time.monotonic()
        while time.monotonic() - heard_s < SILENCE_S:
            messages = fetch(self._consumer, READ_S)
            if messages:
                heard_s = time.monotonic()
            yield from messages
        raise self._failure(KafkaError(KafkaError._TIMED_OUT), name)

    def _tell(self, text: str) -> None:
        if time.monotonic() - self._told_s > READ_S:
            self._told_s = time.monotonic()
            self._say(text)

    def last(
        self, topic: str, number: int, span: Range, wanted: Callable[[Message], bool]
    ) -> Message | None:
        """Return the last record within *span* that is *wanted*."""
        for begin, end in back_from(span.low, span.end):
            found = None
            for message in self.read(topic, number, begin, end):
                if wanted(message):
                    found = message
            if found is not None:
                return found
        return None

    def _failure(self, error: KafkaError, name: str) -> Exception:
        if is_denied(error):
            return CheckFailed(denied(self._settings, error, f"reading {name}"))
        text = f"Kafka at {self._settings.bootstrap} does not let {name} be read: {error.str()}"
        return Unreachable(f"{text}. Remedy: see that all brokers are up.")
