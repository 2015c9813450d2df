"""
Transactions by librdkafka, for a Kafka that lets us in by a way that `client_options` has not.

The same calls as `streams.kafka.transactions`; twice as long for a transaction, and more.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, Producer, TopicPartition

from streams.core.outputs import Header
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.reader import Place
from streams.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Message

# A transaction begun right after another's commit is told CONCURRENT_TRANSACTIONS;
# librdkafka's default of 100 ms before asking again would be most of our latency.
RETRY_BACKOFF_MS: Final = 2
# A call that waits for a lost coordinator (see `streams.worker.watchdog`) looks for the new one
# whenever a connection opens or closes: so one does, soon, while all wait for that call.  Without
# it an abort was seen to be asked for in vain for ever, after Kafka had stood still for 3.6 s: it
# had counted itself lost and told of no brokers at all, and librdkafka had let go of them.
IDLE_MS: Final = 5_000
# More of a cycle goes in one request: 6 % less processor time a record.  Nobody waits for it: a
# commit sends at once what is there.
LINGER_MS: Final = 5
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024  # as `dead-letters` and the changelogs take
QUEUE_FULL_PAUSE_S: Final = 0.1


class RdkafkaTransactions:
    """The transactions of one producer; see `streams.kafka.transactions.Transactions`."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self.ends: dict[Place, int] = {}
        self._producer = Producer(
            settings.kafka(
                **{
                    "transactional.id": transactional_id,
                    "transaction.timeout.ms": settings.transaction_timeout_ms,
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": LINGER_MS,
                    "socket.nagle.disable": True,
                    "retry.backoff.ms": RETRY_BACKOFF_MS,
                    "connections.max.idle.ms": IDLE_MS,
                    "message.max.bytes": MESSAGE_BYTES_MAX,
                    "queue.buffering.max.messages": 0,
                    "queue.buffering.max.kbytes": 512 * 1024,
                },
            ),
            logger=CLIENT_LOGGER,
        )
        self.init = self._producer.init_transactions
        self.commit = self._producer.commit_transaction
        self.abort = self._producer.abort_transaction

    def begin(self) -> None:
        """Begin a transaction."""
        self.ends.clear()
        self._producer.begin_transaction()

    def send_offsets(
        self, offsets: list[TopicPartition], group_metadata: Any, timeout_s: float
    ) -> None:
        """Let the transaction move a group's *offsets*."""
        self._producer.send_offsets_to_transaction(offsets, group_metadata, timeout_s)

    def put(
        self, place: Place, key: bytes | None, value: bytes | None, headers: Iterable[Header]
    ) -> None:
        """Add a record."""
        (topic, number), pairs = place, list(headers)
        while True:
            try:
                self._producer.produce(topic, value, key, number, self._on_delivery, None, 0, pairs)
            except BufferError:  # half a gigabyte is waiting for Kafka: so do we
                self._producer.poll(QUEUE_FULL_PAUSE_S)
            else:
                break
        self._producer.poll(0)

    def close(self) -> None:
        """Let librdkafka close its connections when it ends."""

    def _on_delivery(self, error: KafkaError | None, message: "Message") -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if error is None and topic is not None and partition is not None and offset is not None:
            self.ends[topic, partition] = offset + 1
