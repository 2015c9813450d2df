"""
Sends input records the way producers should, and tells where they have got to.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from streams.kafka.local import LocalKafka
from tests.worker_settings import ANSWER_S, QUIET, WAIT_S, settings_of


class Sent(NamedTuple):
    """Where an input record has got to: the full topic name, and the broker's time stamp."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def place(self) -> str:
        """The record's place as dead letters and causes name it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Inputs:
    """
    A producer of input records as the contract wants it: murmur2, acknowledged by all.

    options: further ones of librdkafka, with `_` for `.` (`compression_type="zstd"`).
    """

    def __init__(self, kafka: LocalKafka, prefix: str, **options: object) -> None:
        self._settings = settings_of(kafka, prefix)
        ours = {"acks": "all", "partitioner": "murmur2_random", "linger_ms": 5}
        self.producer = Producer(self._settings.kafka(**{**ours, **options}), logger=QUIET)
        self._pending: dict[int, Message | None] = {}
        self._error: KafkaError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.producer.flush(ANSWER_S)

    def send(self, *records: tuple[str, object], **one: Any) -> list[Sent]:
        """
        Send records (topic as in the contract, value) and return where they are.

        A value is a dict, whose `user_id` becomes the key, or bytes or None.
        """
        for topic, value in records:
            self.queue(topic, value, **one)
        return self.flush()

    def queue(
        self,
        topic: str,
        value: object,
        key: bytes | str | msgspec.UnsetType | None = msgspec.UNSET,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int = -1,
    ) -> None:
        """Send one record without waiting; `flush` tells where it has got to."""
        if isinstance(key, msgspec.UnsetType):
            key = str(value["user_id"]) if isinstance(value, dict) else None
        data = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
        number = len(self._pending)
        self._pending[number] = None

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._error = self._error or error
            self._pending[number] = message

        while True:
            try:
                self.producer.produce(
                    self._settings.topic(topic),
                    data,
                    key,
                    partition,
                    on_delivery=delivered,
                    headers=list(headers),
                )
            except BufferError:
                self.producer.poll(0.1)
            else:
                break
        self.producer.poll(0)

    def flush(self) -> list[Sent]:
        """Wait until all is acknowledged; return where it is, in the order it was sent."""
        left = self.producer.flush(WAIT_S)
        assert not left, f"{left} records were not acknowledged"
        assert self._error is None, self._error
        sent = [_sent(message) for message in self._pending.values()]
        self._pending = {}
        return sent


def _sent(message: Message | None) -> Sent:
    assert message is not None
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Sent(topic, partition, offset, message.timestamp()[1])
