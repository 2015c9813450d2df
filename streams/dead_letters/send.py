"""
Sends mended records and dismissals, and waits until every replica that has to has them.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.dead_letters.letter import Place
from streams.dead_letters.mend import Mended
from streams.errors import CheckFailed, Unreachable
from streams.kafka.client_log import CLIENT_LOGGER
from streams.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Message

DELIVERY_TIMEOUT_MS: Final = 30_000
QUEUED_KBYTES_MAX: Final = 64 * 1024
# Before compression; what the topic takes of it compressed is for the broker to say.
BYTES_MAX: Final = 16 * 1024 * 1024
PARTITIONER: Final = "murmur2_random"  # Kafka's own default: a key's partition
BY_KEY: Final = -1

_TOO_LARGE: Final = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)

Arrived = Callable[[Place], None]


class Sender:
    """
    Writes to inputs; use it with `with`, which at its end waits until all is acknowledged.

    Raises Unreachable where Kafka does not take a record in time, CheckFailed where it refuses one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failure: KafkaError | None = None
        self._producer = Producer(
            settings.kafka(
                acks="all",
                enable_idempotence=True,
                partitioner=PARTITIONER,
                compression_type="zstd",
                message_max_bytes=BYTES_MAX,
                message_timeout_ms=DELIVERY_TIMEOUT_MS,
                queue_buffering_max_kbytes=QUEUED_KBYTES_MAX,
                linger_ms=5,
            ),
            logger=CLIENT_LOGGER,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._producer.flush(DELIVERY_TIMEOUT_MS / 1000)
        if error is None:
            self._check()

    def send(
        self,
        topic: str,
        record: Mended,
        arrived: Arrived,
        headers: list[tuple[str, str | bytes | None]],
        partition: int = BY_KEY,
    ) -> None:
        """Send *record* to *topic* (its full name); *arrived* is told its place, in this thread."""

        def delivered(error: KafkaError | None, message: "Message") -> None:
            if error is not None:
                self._failure = self._failure or error
            else:
                arrived(Place(topic, message.partition() or 0, message.offset() or 0))

        while True:
            self._check()
            try:
                self._producer.produce(
                    topic,
                    record.value,
                    record.key,
                    partition,
                    on_delivery=delivered,
                    headers=headers,
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._failure = error.args[0]
            else:
                break
        self._producer.poll(0)

    def _check(self) -> None:
        error = self._failure
        if error is None:
            return
        if error.code() in _TOO_LARGE:
            raise CheckFailed(
                f"a record is larger than its topic takes: {error.str()}. Remedy: take out of it "
                "what no field of the contract needs."
            )
        if error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT):
            raise Unreachable(
                f"Kafka at {self._settings.bootstrap} has not acknowledged a record within "
                f"{DELIVERY_TIMEOUT_MS // 1000} s: {error.str()}. Remedy: see that all brokers are "
                "up, then run this again: what has arrived is skipped."
            )
        raise CheckFailed(f"Kafka at {self._settings.bootstrap} refused a record: {error.str()}")
