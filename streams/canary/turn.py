"""
One turn: an account is allowed, objects, and is followed until every store has hidden it.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from streams.canary.account import CONTENT, USERS, Account, Heard, Record
from streams.canary.erasures import Erasures
from streams.canary.numbers import Numbers
from streams.core.receipts import FOLLOWED, HIDDEN
from streams.errors import CheckFailed
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.patience import Patience
from streams.kafka.reader import ends, fetch, reader
from streams.monitor.levels import StoreLevels
from streams.settings import Settings
from streams.worker.receipt_notes import Following

logger = logging.getLogger(__name__)

READ_S: Final = 0.02  # how late an acknowledgement may be noticed
FLUSH_S: Final = 0.1
ASK_S: Final = 5.0
DEAF_S: Final = 30.0  # without a word that is taken: then a new client has its turn
ALLOWED_WITHIN_S: Final = 60.0  # no grant is promised: where none comes, others are measured


class Stopped(Exception):
    """The canary is to end."""


class Turns:
    """
    Sends and reads; one at a time.

    stopping: whether to end; asked all the time.
    """

    def __init__(
        self,
        settings: Settings,
        levels: StoreLevels,
        numbers: Numbers,
        erasures: Erasures,
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._levels = levels
        self._numbers = numbers
        self._erasures = erasures
        self._stopping = stopping
        self._stores = [Following.of(each) for each in settings.stores]
        followed = {topic for store in self._stores for topic in store.topics}
        wanted = sorted({USERS, CONTENT, *followed})
        self._topics = {settings.topic(FOLLOWED[topic]): topic for topic in wanted}
        self._refused: KafkaError | None = None
        self._consumer = reader(settings, fetch_wait_max_ms=20)
        self._producer = self._connect()

    def _connect(self) -> Producer:
        return Producer(
            self._settings.kafka(
                acks="all",
                enable_idempotence=True,
                partitioner="murmur2_random",
                message_timeout_ms=0,  # a Kafka that is away is what is measured
                linger_ms=0,
            ),
            logger=CLIENT_LOGGER,
        )

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def take(
        self, account: Account, number: int, before: list[tuple[str, Record]], objection_id: str
    ) -> bool:
        """
        Let *account* of partition *number* be allowed by the records *before*, and object.

        Returns once all stores have hidden it, or (False) where it was not allowed in time.
        Raises Stopped, and KafkaException where Kafka does not tell where to begin.
        """
        heard = Heard(account)
        places = [(topic, number) for topic in self._topics]
        begins = ends(self._consumer, places, ASK_S)
        self._consumer.assign([TopicPartition(*place, begins[place]) for place in places])
        try:
            self.send(before)
            if not self._is_allowed(heard):
                return False
            heard.forget()
            self._numbers.filed([store.name for store in self._stores])
            self.send([account.objection(objection_id, "filed")])
            self._follow(heard, number)
        finally:
            self._consumer.unassign()
        return True

    def send(self, records: list[tuple[str, Record]]) -> None:
        """Send *records* and wait until Kafka has them.  Raises CheckFailed where it refuses."""
        self._produce(records)
        patience = Patience(DEAF_S)
        while self._producer.flush(FLUSH_S):
            if self._stopping():
                raise Stopped
            if patience.is_over():  # a record that gets there twice says the same
                logger.warning("nothing was taken for %.0f s: a new client", DEAF_S)
                self._producer.purge()
                self._producer = self._connect()
                self._produce(records)
        if self._refused is not None:
            raise CheckFailed(
                f"Kafka at {self._settings.bootstrap} refused what the canary says: "
                f"{self._refused.str()}. Remedy: let its user write to the four inputs (the role "
                "`canary` of deploy/acls)."
            )

    def _produce(self, records: list[tuple[str, Record]]) -> None:
        for topic, record in records:
            self._producer.produce(
                self._settings.topic(topic),
                msgspec.json.encode(record),
                str(record["user_id"]).encode(),
                on_delivery=self._delivered,
            )

    def _is_allowed(self, heard: Heard) -> bool:
        until_s = time.monotonic() + ALLOWED_WITHIN_S
        while not heard.allowed:
            self._read(heard)
            if time.monotonic() > until_s:
                return False
        return True

    def _follow(self, heard: Heard, number: int) -> None:
        """Wait until both locks are shut, and then for all stores."""
        while not (heard.purged and heard.knows(self._topics.values())):
            self._read(heard)
        self._numbers.published()
        waiting = list(self._stores)
        while waiting:
            hidden = [store for store in waiting if self._has_hidden(store, heard, number)]
            for store in hidden:
                waiting.remove(store)
                self._numbers.hidden(store.name)
                offsets = {topic: heard.offset(topic) for topic in store.topics}
                self._erasures.begin(store, number, offsets)
            if waiting:
                self._read(heard)

    def _has_hidden(self, store: Following, heard: Heard, number: int) -> bool:
        return all(
            self._levels.offset(store.name, topic, number, HIDDEN) > heard.offset(topic)
            for topic in store.topics
        )

    def _read(self, heard: Heard) -> None:
        if self._stopping():
            raise Stopped
        self._erasures.look()
        for message in fetch(self._consumer, READ_S):
            self._take(heard, message)

    def _take(self, heard: Heard, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise KafkaException(error)
            return  # the end of a partition, or Kafka is away, which is what is measured
        topic, key = self._topics[message.topic() or ""], message.key()
        raw = key if isinstance(key, bytes) else None
        heard.take(topic, raw, message.offset() or 0, tombstone=message.value() is None)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._refused = self._refused or error
