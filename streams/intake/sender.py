"""
Hands objections to Kafka, and tells once all replicas that count have them.

acks=all: the broker answers when the record is on every replica in sync.  Idempotence is left out
on purpose: a record sent twice is the same objection, and without it the producer has no state in
which it cannot go on.  A record that Kafka has not confirmed in time may still arrive; whoever
tries again with the same form sends the same objection.

Answers are fetched by the event loop itself, many at once: a thread for it would wait for the
interpreter with each answer, and wake the loop.
"""

import asyncio
import logging
import time
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.patience import Patience
from streams.settings import Settings
from streams.worker.names import OBJECTIONS

logger = logging.getLogger(__name__)

QUEUE_RECORDS: Final = 20_000  # more would not be confirmed in time
LINGER_MS: Final = 2  # nobody notices, and Kafka has fewer requests to answer
AWAITED_S: Final = 0.002  # how late an answer may be noticed
IDLE_S: Final = 1.0  # when none is awaited, for what the client has to say of itself
TELL_EVERY_S: Final = 10.0
DEAF_S: Final = 10.0  # without any confirmation: then a new client has its turn


class NotSaved(Exception):
    """Kafka has not confirmed the record: the text says why, and nothing of what it held."""


class Sender:
    """Sends to `objections`; of the event loop that `start`s it, and `stop` it in the end."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic(OBJECTIONS)
        self._settings = settings
        self._producer = self._connect()
        self._former: list[Producer] = []  # that may still have records to tell of
        self._patience = Patience(DEAF_S)
        self._awaited = 0
        self._settled = asyncio.Event()  # while none is awaited
        self._settled.set()
        self._timer: asyncio.TimerHandle | None = None
        self._told_s = 0.0
        self._not_saved_n = 0

    def _connect(self) -> Producer:
        settings = self._settings
        return Producer(
            settings.kafka(
                acks="all",
                partitioner="murmur2_random",  # Kafka's own default for records with a key
                linger_ms=LINGER_MS,
                delivery_timeout_ms=settings.intake_confirm_ms,
                request_timeout_ms=max(1_000, settings.intake_confirm_ms // 2),
                retry_backoff_ms=50,
                reconnect_backoff_max_ms=1_000,
                queue_buffering_max_messages=QUEUE_RECORDS,
            ),
            logger=CLIENT_LOGGER,
        )

    def start(self) -> None:
        """Begin to listen to Kafka's answers."""
        self._fetch()

    async def stop(self) -> None:
        """Wait for what is under way, which ends within the time Kafka is given."""
        await self._settled.wait()
        if self._timer is not None:
            self._timer.cancel()

    async def send(self, user_id: str, value: bytes) -> None:
        """Return once Kafka has the record for good.  Raises `NotSaved`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            self._awaited -= 1
            if not self._awaited:
                self._settled.set()
            if error is None:
                self._patience.answered()
            elif self._patience.is_over():
                self._renew()
            if future.done():  # whoever asked has gone
                return
            if error is None:
                future.set_result(None)
            else:
                self._tell(error.str())
                future.set_exception(NotSaved(error.str()))

        try:
            self._producer.produce(self._topic, value, user_id.encode(), on_delivery=delivered)
        except BufferError:
            self._tell("too many wait for Kafka already")
            raise NotSaved("too many wait for Kafka already") from None
        self._awaited += 1
        if self._awaited == 1:
            self._settled.clear()
            self._fetch()
        await future

    def _fetch(self) -> None:
        """Take what Kafka has answered, and come back."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            for each in (self._producer, *self._former):
                each.poll(0)
        finally:  # whatever the client has to say: those who wait are answered
            pause_s = AWAITED_S if self._awaited else IDLE_S
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._fetch)

    def _renew(self) -> None:
        """Send by a new client; the old one still tells what became of its records."""
        logger.warning("nothing was saved for %.0f s: a new client", DEAF_S)
        self._former = [each for each in self._former if len(each)]
        self._former.append(self._producer)
        self._producer = self._connect()

    def _tell(self, why: str) -> None:
        self._not_saved_n += 1
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            logger.warning(
                "%d objections not saved so far, those who sent them were told: %s",
                self._not_saved_n,
                why,
            )
