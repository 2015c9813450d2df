"""
Sends the demo's input records, and knows how far a worker must read to have seen them all.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from streams.demo.script import Step
from streams.errors import Unreachable
from streams.settings import Settings

DELIVERY_TIMEOUT_S: Final = 30.0
BACKLOG_RECORDS: Final = 5_000  # so that a progress bar tells what arrived, not what was queued

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # librdkafka's lines; our error says what matters

Place = tuple[str, int]  # topic as in the contract, partition


class Sender:
    """
    A producer as the contract wants it: murmur2, acknowledged by all replicas.

    starts, ends: the first offset of ours in a partition, and the one behind our last.
    delivered: records acknowledged.
    """

    def __init__(self, settings: Settings) -> None:
        self.starts: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self.delivered = 0
        self._settings = settings
        self._error: KafkaError | None = None
        self._encode = msgspec.json.Encoder().encode
        self._producer = Producer(
            settings.kafka(
                acks="all",
                enable_idempotence=True,
                partitioner="murmur2_random",
                linger_ms=2,
                delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
            ),
            logger=logger,
        )

    def send_all(self, steps: Iterable[Step], tell: Callable[[int], None]) -> None:
        """Send *steps* as fast as they are taken; *tell* hears how many are delivered."""
        for step in steps:
            self._send(step)
            while len(self._producer) > BACKLOG_RECORDS:
                self._producer.poll(0.05)
            tell(self.delivered)
        self.finish()
        tell(self.delivered)

    def send_paced(self, steps: Sequence[Step], over_s: float, tell: Callable[[int], None]) -> None:
        """Send *steps* evenly over *over_s* seconds; *tell* hears how many were sent."""
        began_s = time.monotonic()
        for number, step in enumerate(steps):
            wait_s = began_s + over_s * number / len(steps) - time.monotonic()
            self._producer.poll(max(wait_s, 0))
            while (wait_s := began_s + over_s * number / len(steps) - time.monotonic()) > 0:
                self._producer.poll(wait_s)
            self._send(step)
            tell(number + 1)
        self.finish()

    def finish(self) -> None:
        """Return when all is acknowledged; raises Unreachable when it was not."""
        left = self._producer.flush(DELIVERY_TIMEOUT_S)
        if left or self._error is not None:
            why = self._error.str() if self._error is not None else f"{left} records wait"
            raise Unreachable(f"Kafka at {self._settings.bootstrap} did not take input: {why}")

    def _send(self, step: Step) -> None:
        self._producer.produce(
            self._settings.topic(step.topic),
            self._encode(step.value),
            step.value["user_id"].encode(),
            on_delivery=self._delivered,
        )
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._error = error
            return
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        place = (topic.removeprefix(self._settings.topic_prefix), partition)
        self.starts[place] = min(self.starts.get(place, offset), offset)
        self.ends[place] = max(self.ends.get(place, 0), offset + 1)
        self.delivered += 1
