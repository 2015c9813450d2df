"""
What stores say of how far they are: `purge-acks`, written and read back.  Source: contract.md.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

from streams.core.receipts import ACK, Phase, PurgeAck
from streams.core.refusals import REFUSALS
from streams.core.times import from_ms
from streams.errors import Halt, Unreachable
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.patience import Patience
from streams.kafka.reader import extent, reader
from streams.settings import Settings
from streams.sinks.sink import Place
from streams.subscriber.places import Ack

ACKS: Final = "purge-acks"
READ_TIMEOUT_S: Final = 60.0  # without a record; a healthy log is read in seconds
FLUSH_TIMEOUT_S: Final = 15.0
DEAF_S: Final = 30.0  # without one that is taken: then a new client has its turn
WAITING_MAX: Final = 10_000  # acknowledgements on their way; more means that Kafka is away

logger = logging.getLogger(__name__)


class AckReader:
    """Reads the words of one store, from the log's beginning and later from where it was."""

    def __init__(self, settings: Settings, store: str) -> None:
        self._settings = settings
        self._store = store
        self._found: dict[str, PurgeAck] = {}
        self._at_ms: dict[str, int] = {}
        self._consumer = reader(
            settings, group=f"{settings.topic_prefix}objections-store-{store}-acks"
        )
        self._consumer.assign([TopicPartition(settings.topic(ACKS), 0, OFFSET_BEGINNING)])

    def read(self) -> Mapping[tuple[Place, Phase], Ack]:
        """
        Return what the store last said of each place and phase, up to the log's end of now.

        Raises Unreachable when Kafka does not answer.
        """
        topic = TopicPartition(self._settings.topic(ACKS), 0)
        _, end = extent(self._consumer, (topic.topic, topic.partition), READ_TIMEOUT_S)
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        reached = max(0, self._consumer.position([topic])[0].offset)
        while reached < end:
            message = self._consumer.poll(0.5)
            if message is None:
                if time.monotonic() > deadline_s:
                    name = self._settings.topic(ACKS)
                    text = f"Kafka at {self._settings.bootstrap}: {name} could not be read to {end}"
                    raise Unreachable(text)
                continue
            deadline_s = time.monotonic() + READ_TIMEOUT_S
            reached = self._take(message)
        prefix = self._settings.topic_prefix
        return {
            (Place(ack.topic.removeprefix(prefix), ack.partition), ack.phase): Ack(
                ack.offset, self._at_ms[key]
            )
            for key, ack in self._found.items()
            if ack.topic.startswith(prefix)
        }

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def _take(self, message: Message) -> int:
        """Note what *message* says; return the offset up to which the log is read."""
        offset, error = message.offset(), message.error()
        assert offset is not None
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return offset
            raise Halt(f"reading {self._settings.topic(ACKS)}: {error.str()}")
        key, value = message.key(), message.value()
        name = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
        if name.partition("/")[0] == self._store:
            if value is None:
                self._found.pop(name, None)
            else:
                try:
                    self._found[name] = msgspec.json.decode(value, type=PurgeAck)
                    self._at_ms[name] = message.timestamp()[1]
                except REFUSALS:  # its words may quote what somebody sent here by mistake
                    logger.warning("%s/0/%d is no acknowledgement: expected %s", ACKS, offset, ACK)
        return offset + 1


class AckWriter:
    """
    Writes acknowledgements, in order; a failed one ends the subscriber.

    Where none is taken for long, a new client says the last of each place and phase again.
    """

    def __init__(self, settings: Settings, store: str) -> None:
        self._settings = settings
        self._store = store
        self._failure: str | None = None
        self._patience = Patience(DEAF_S)
        self._waiting: dict[bytes, tuple[int, bytes]] = {}  # the last of each key: number, value
        self._said = 0
        self._producer = self._connect()

    def _connect(self) -> Producer:
        return Producer(
            self._settings.kafka(
                acks="all",
                enable_idempotence=True,
                linger_ms=2,
                compression_type="lz4",
                message_timeout_ms=0,  # a store goes on while Kafka is away, and tells it later
                partitioner="murmur2_random",
            ),
            logger=CLIENT_LOGGER,
        )

    def write(self, place: Place, phase: Phase, offset: int) -> None:
        """Say that everything in *place* below *offset* is applied."""
        topic = self._settings.topic(place.topic)
        at = from_ms(time.time_ns() // 1_000_000)
        ack = PurgeAck(self._store, topic, place.partition, offset, phase, at)
        self._said += 1
        key, value = ack.key.encode(), msgspec.json.encode(ack)
        self._waiting[key] = self._said, value
        self._send(key, self._said, value)

    def _send(self, key: bytes, number: int, value: bytes) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._failure = error.str()
                return
            self._patience.answered()
            if self._waiting.get(key, (0, b""))[0] == number:
                del self._waiting[key]

        topic = self._settings.topic(ACKS)
        self._producer.produce(topic, value, key, partition=0, on_delivery=delivered)

    def check(self) -> None:
        """Let deliveries be told; raises Halt when one failed."""
        self._producer.poll(0)
        self._look()
        while len(self._producer) > WAITING_MAX:
            self._producer.poll(0.1)
            self._look()

    def _look(self) -> None:
        if self._failure is not None:
            raise Halt(f"writing {self._settings.topic(ACKS)}: {self._failure}")
        if self._waiting and self._patience.is_over():
            self._renew()

    def _renew(self) -> None:
        """Say all that waits by a new client; what the old one had is not sent any more."""
        logger.warning("no acknowledgement was taken for %.0f s: a new client", DEAF_S)
        self._producer.purge()
        self._producer = self._connect()
        for key, (number, value) in self._waiting.items():
            self._send(key, number, value)

    def flush(self) -> None:
        """Return when all is delivered; raises Unreachable when Kafka does not take it."""
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        self.check()
        if left:
            text = (
                f"Kafka at {self._settings.bootstrap} did not take {left} acknowledgements within "
                f"{FLUSH_TIMEOUT_S:.0f} s; the store has what it applied, and they are written "
                "again at the next start"
            )
            raise Unreachable(text)
