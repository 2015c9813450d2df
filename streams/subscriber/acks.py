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
from streams.subscriber.hearing import DEAF_S, Deaf
from streams.subscriber.places import Ack

ACKS: Final = "purge-acks"
READ_TIMEOUT_S: Final = 60.0  # without a record; a healthy log is read in seconds
FLUSH_TIMEOUT_S: Final = 15.0
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

    Once closed it says nothing more: what was not taken is said by whoever begins at the store's
    positions again.
    """

    def __init__(self, settings: Settings, store: str) -> None:
        self._settings = settings
        self._store = store
        self._failure: str | None = None
        self._patience = Patience(DEAF_S)
        self._producer = Producer(
            settings.kafka(
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
        self._producer.produce(
            self._settings.topic(ACKS),
            msgspec.json.encode(ack),
            ack.key,
            partition=0,
            on_delivery=self._delivered,
        )

    def check(self) -> None:
        """Let deliveries be told; raises Halt when one failed, Deaf when none is for long."""
        self._look(0)
        while len(self._producer) > WAITING_MAX:
            self._look(0.1)

    def close(self) -> None:
        """Let go of Kafka."""
        self._producer.purge()

    def _look(self, wait_s: float) -> None:
        self._producer.poll(wait_s)
        if self._failure is not None:
            raise Halt(f"writing {self._settings.topic(ACKS)}: {self._failure}")
        if not len(self._producer):
            self._patience.answered()
        elif self._patience.is_over():
            raise Deaf("no acknowledgement was taken")

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

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._patience.answered()
        else:
            self._failure = error.str()
