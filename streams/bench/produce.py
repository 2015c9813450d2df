"""
Writes the workload into the input topics: as fast as it goes, or at an offered rate.

A record's partition is murmur2 of its key, as the contract says.
"""

import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.bench.child import Child, Parent, counter
from streams.bench.connection import options_at
from streams.bench.workload import Record, make
from streams.errors import CommandError

FLUSH_TIMEOUT_S: Final = 60.0
LINGER_MS: Final = 5  # what Kafka's producer (since 4.0) and librdkafka's have by default
NAP_S: Final = 0.001  # how precisely a rate is kept
_POLL_EVERY_RECORDS: Final = 1_000

Make = Callable[[int, int], list[Record]]  # (records, seed) -> the workload


def preload(
    bootstrap: str, prefix: str, records: Sequence[Record], say: Callable[[int], None]
) -> None:
    """Write *records* and return when Kafka has them; *say* is told how many are on their way."""
    producer = connect(bootstrap, linger_ms=20)
    for number, record in enumerate(records):
        put(producer, prefix, record)
        if number % _POLL_EVERY_RECORDS == 0:
            producer.poll(0)
            say(number)
    flush(producer)
    say(len(records))


class PacedProducer(Child):
    """A process that offers the first *records* records of a workload at *rate* per second."""

    def __init__(
        self, bootstrap: str, prefix: str, records: int, seed: int, rate: float, make: Make = make
    ) -> None:
        self._sent = counter()
        super().__init__(
            "offer records", _offer, bootstrap, prefix, records, seed, rate, make, self._sent
        )

    @property
    def sent(self) -> int:
        """How many records have been offered."""
        return int(self._sent.value)

    def finish(self) -> "array[int]":
        """Return when each record was sent, in nanoseconds since 1970."""
        sent_ns: array[int] = self.receive(FLUSH_TIMEOUT_S)
        return sent_ns


def _offer(
    bootstrap: str,
    prefix: str,
    records: int,
    seed: int,
    rate: float,
    make: Make,
    sent: Any,
    parent: Parent,
) -> None:
    workload = make(records, seed)
    producer = connect(bootstrap, linger_ms=LINGER_MS)
    producer.list_topics(f"{prefix}content", FLUSH_TIMEOUT_S)
    parent.tell("ready")
    parent.wait()
    sent_ns = array("q")
    begun_s = time.monotonic()
    for number, record in enumerate(workload):
        due_s = begun_s + number / rate
        while (left_s := due_s - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(left_s, NAP_S))
        sent_ns.append(time.time_ns())
        put(producer, prefix, record)
        sent.value = number + 1
        if number % _POLL_EVERY_RECORDS == 0:
            producer.poll(0)
            if parent.gone:
                return
    flush(producer)
    parent.tell(sent_ns)


def connect(bootstrap: str, linger_ms: int) -> Producer:
    """Return a producer as the contract has it; `flush` raises what a delivery has failed with."""
    return Producer(
        {
            **options_at(bootstrap),
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": linger_ms,
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 3,  # errors: a fresh Kafka's first answers are warned about otherwise
            "on_delivery": _on_delivery,
        }
    )


_failed: Final[list[KafkaError]] = []


def _on_delivery(error: KafkaError | None, _message: object) -> None:
    if error is not None:
        _failed.append(error)  # raised here, confluent-kafka 2.16 would lose it


def put(producer: Producer, prefix: str, record: Record) -> None:
    """Hand *record* to *producer*, waiting while its queue is full."""
    while True:
        try:
            producer.produce(f"{prefix}{record.topic}", record.value, record.key)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def flush(producer: Producer) -> None:
    """Return when Kafka has all records; raises CommandError when that takes long."""
    try:
        left = producer.flush(FLUSH_TIMEOUT_S)
    except SystemError as lost:  # what became of a Ctrl-C that came in a callback
        raise KeyboardInterrupt from lost
    if _failed:
        raise KafkaException(_failed[0])
    if left:
        message = f"{left} input records could not be delivered within {FLUSH_TIMEOUT_S:.0f} s"
        raise CommandError(message)
