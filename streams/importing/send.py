"""
Hands records to Kafka, acknowledged by all replicas, and knows up to which row it has them.

Two producers take turns.  While one is filled the other delivers what it was given before, and
when that is done all rows up to there are acknowledged: nobody has to look at single records, which
would cost more than sending them.
"""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.errors import BadRecord, CheckFailed, Unreachable
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.denied import denied, is_denied
from streams.settings import Settings

SEGMENT_ROWS: Final = 20_000
SEGMENT_S: Final = 1.0
DELIVERY_TIMEOUT_MS: Final = 60_000
FLUSH_S: Final = 0.5
ROOM_S: Final = 0.05
SLICE_ROWS: Final = 5_000
# What may be sent a second time after kill -9: the turn of each of the two producers.
ROWS_TWICE_MAX: Final = 2 * (SEGMENT_ROWS + SLICE_ROWS)
TOO_LARGE: Final = BadRecord("value_too_large", "value: expected what Kafka takes as one message")


class Sender:
    """
    Sends to one topic.

    quick: as much as possible at a time; else each record soon.
    Raises Unreachable where Kafka does not take records.
    """

    def __init__(self, settings: Settings, topic: str, *, quick: bool, rows: int = 0) -> None:
        self._settings = settings
        self._topic = topic
        self._error: KafkaError | None = None
        self._filled, self._delivering = (self._producer(quick=quick) for _ in range(2))
        self._begun_s = time.monotonic()
        self._begun_rows = rows  # where the turn of the one that is filled began
        self.acknowledged = rows

    def _producer(self, *, quick: bool) -> Producer:
        return Producer(
            self._settings.kafka(
                **{
                    "acks": "all",
                    "enable.idempotence": True,
                    "partitioner": "murmur2_random",
                    "linger.ms": 20 if quick else 5,
                    "batch.size": 1_000_000,
                    "compression.type": "lz4",
                    "queue.buffering.max.messages": 200_000,
                    "message.timeout.ms": DELIVERY_TIMEOUT_MS,
                    "delivery.report.only.error": True,
                }
            )
            | {"on_delivery": self._delivered},
            logger=CLIENT_LOGGER,
        )

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None and self._error is None:
            self._error = error

    def send(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None]
    ) -> dict[int, BadRecord]:
        """Hand over records, but for those without a key; return those that are too large."""
        refused: dict[int, BadRecord] = {}
        produce, topic = self._filled.produce, self._topic
        for at, (key, value) in enumerate(zip(keys, values, strict=True)):
            if key is None:
                continue
            try:
                produce(topic, value, key)
            except BufferError:
                self._make_room(key, value)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                refused[at] = TOO_LARGE
        self._filled.poll(0)
        self._check()
        return refused

    def _make_room(self, key: bytes, value: bytes | None) -> None:
        while True:
            self._filled.poll(ROOM_S)
            self._check()
            try:
                self._filled.produce(self._topic, value, key)
            except BufferError:
                continue
            return

    def passed(self, rows: int) -> bool:
        """Know that all before *rows* were handed over; return whether more are acknowledged."""
        now_s = time.monotonic()
        is_due = rows - self._begun_rows >= SEGMENT_ROWS or now_s - self._begun_s >= SEGMENT_S
        if not is_due:
            return False
        self._flush(self._delivering)
        self.acknowledged = self._begun_rows
        self._filled, self._delivering = self._delivering, self._filled
        self._begun_rows, self._begun_s = rows, now_s
        return True

    def finish(self, rows: int) -> None:
        """Return when all before row *rows* are acknowledged."""
        self._flush(self._delivering)
        self._flush(self._filled)
        self.acknowledged = self._begun_rows = rows

    def abandon(self) -> None:
        """Forget what is not delivered yet."""
        for producer in (self._filled, self._delivering):
            producer.purge()
            producer.flush(0)

    def _flush(self, producer: Producer) -> None:
        while producer.flush(FLUSH_S):
            self._check()
        self._check()

    def _check(self) -> None:
        if self._error is not None and is_denied(self._error):
            raise CheckFailed(denied(self._settings, self._error, f"writing {self._topic}"))
        if self._error is not None:
            raise Unreachable(
                f"Kafka at {self._settings.bootstrap} did not take records of {self._topic}: "
                f"{self._error.str()}. All rows up to {self.acknowledged:,} are acknowledged. "
                "Remedy: see that it is up, then run the same command again: it goes on there."
            )
