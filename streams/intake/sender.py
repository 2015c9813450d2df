"""
Hands objections to Kafka, and tells once all replicas that count have them.

acks=all: the broker answers when the record is on every replica in sync.  Idempotence is left out
on purpose: a record sent twice is the same objection, and without it the producer has no state in
which it cannot go on.  A record that Kafka has not confirmed in time may still arrive; whoever
tries again with the same form sends the same objection.
"""

import asyncio
import logging
import threading
import time
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from streams.kafka.client_log import CLIENT_LOGGER
from streams.settings import Settings
from streams.worker.names import OBJECTIONS

logger = logging.getLogger(__name__)

QUEUE_RECORDS: Final = 20_000  # more would not be confirmed in time
POLL_S: Final = 0.1
TELL_EVERY_S: Final = 10.0

Outcome = tuple["asyncio.Future[None]", KafkaError | None]


class NotSaved(Exception):
    """Kafka has not confirmed the record: the text says why, and nothing of what it held."""


class Sender:
    """Sends to `objections`; `start` it in a running event loop, and `stop` it in the end."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic(OBJECTIONS)
        self._confirm_s = settings.intake_confirm_ms / 1000
        self._producer = Producer(
            settings.kafka(
                acks="all",
                partitioner="murmur2_random",  # Kafka's own default for records with a key
                linger_ms=2,
                delivery_timeout_ms=settings.intake_confirm_ms,
                request_timeout_ms=max(1_000, settings.intake_confirm_ms // 2),
                retry_backoff_ms=50,
                reconnect_backoff_max_ms=1_000,
                queue_buffering_max_messages=QUEUE_RECORDS,
            ),
            logger=CLIENT_LOGGER,
        )
        self._done: list[Outcome] = []  # touched by the polling thread alone
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._poll, name="sender", daemon=True)
        self._told_s = 0.0
        self._not_saved_n = 0

    def start(self) -> None:
        """Begin to listen to Kafka's answers."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Wait for what is under way, and let go of Kafka."""
        await asyncio.to_thread(self._end)

    async def send(self, user_id: str, value: bytes) -> None:
        """Return once Kafka has the record for good.  Raises `NotSaved`."""
        assert self._loop is not None, "not started"
        future: asyncio.Future[None] = self._loop.create_future()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            self._done.append((future, error))

        try:
            self._producer.produce(self._topic, value, user_id.encode(), on_delivery=delivered)
        except BufferError:
            self._tell("too many wait for Kafka already")
            raise NotSaved("too many wait for Kafka already") from None
        await future

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(POLL_S)
            self._hand_over()
        self._producer.flush(self._confirm_s)
        self._hand_over()

    def _hand_over(self) -> None:
        """Wake those who wait, all at once: waking the event loop costs more than an answer."""
        if self._done and self._loop is not None:
            done, self._done = self._done, []
            self._loop.call_soon_threadsafe(self._settle, done)

    def _settle(self, done: list[Outcome]) -> None:
        for future, error in done:
            if future.done():  # whoever asked has gone
                continue
            if error is None:
                future.set_result(None)
            else:
                self._tell(error.str())
                future.set_exception(NotSaved(error.str()))

    def _tell(self, why: str) -> None:
        self._not_saved_n += 1
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            logger.warning(
                "%d objections not saved so far, those who sent them were told: %s",
                self._not_saved_n,
                why,
            )

    def _end(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
