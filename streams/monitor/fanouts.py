"""
Follows the users changelog for one thing: the fan-outs that are under way.

They are rows of the state, so a fan-out whose worker is gone is still known, and since when its
record has waited.  Of all other rows only the key's first byte is looked at, and nothing is kept.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import CheckFailed
from streams.kafka.reader import BATCH_RECORDS, fetch, reader
from streams.monitor.sight import Place
from streams.settings import Settings
from streams.state import rows
from streams.worker.names import USERS_CHANGELOG, WITH_LINKS

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

POLL_S: Final = 0.05  # how late a stop may be noticed


class Fanouts:
    """
    The fan-outs under way, by what is committed of the changelog.

    at: by partition, up to where it has been read.  known: partitions once read to their end.
    """

    def __init__(self, settings: Settings, partitions_n: int) -> None:
        self.at = dict.fromkeys(range(partitions_n), 0)
        self.known: set[int] = set()
        self._topic = settings.topic(USERS_CHANGELOG)
        self._inputs = {settings.topic(name) for name in WITH_LINKS.all}
        self._jobs: dict[int, dict[bytes, Place | None]] = {number: {} for number in self.at}
        self._since_ms: dict[tuple[int, bytes], int] = {}
        self._settings = settings
        self._consumer = self._connect()

    def renew(self) -> None:
        """Read on with a new client."""
        self._consumer.close()
        self._consumer = self._connect()

    def _connect(self) -> Consumer:
        consumer = reader(
            self._settings,
            fetch_wait_max_ms=100,
            queued_min_messages=2 * BATCH_RECORDS,
            queued_max_messages_kbytes=16 * 1024,
            fetch_queue_backoff_ms=10,
        )
        consumer.assign([TopicPartition(self._topic, number, at) for number, at in self.at.items()])
        return consumer

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def oldest_ms(self) -> dict[Place, int]:
        """Return the time stamp of the record each place's oldest fan-out began with."""
        found: dict[Place, int] = {}
        for number, jobs in self._jobs.items():
            for key, place in jobs.items():
                if place is not None:  # the clock and the policy are no records
                    since_ms = self._since_ms[number, key]
                    found[place] = min(since_ms, found.get(place, since_ms))
        return found

    def reached(self, upto: Mapping[int, int]) -> bool:
        """Whether every partition of *upto* has been read to there."""
        return all(self.at[number] >= end for number, end in upto.items())

    def follow(self, seconds: float, upto: Mapping[int, int] | None = None) -> None:
        """
        Read on for so many seconds, or until the partitions of *upto* are read to there.

        Raises KafkaException where the changelog cannot be read, and CheckFailed for rows of a
        newer version.
        """
        deadline_s = time.monotonic() + seconds
        while upto is None or not self.reached(upto):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            for message in fetch(self._consumer, min(POLL_S, left_s), BATCH_RECORDS):
                self._take(message)

    def check(self, ends: Mapping[int, int]) -> None:
        """Begin again where the changelog now ends before what was read of it: it is another."""
        again = [number for number, end in ends.items() if end < self.at[number]]
        if again:
            logger.warning("%s of %s was made anew: reading it again", again, self._topic)
            self._begin_again(again)

    def _begin_again(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.at[number] = 0
            self.known.discard(number)
            for key in self._jobs[number]:
                del self._since_ms[number, key]
            self._jobs[number].clear()
        self.renew()

    def _take(self, message: "Message") -> None:
        number, offset, error = message.partition(), message.offset(), message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                assert number is not None
                self.at[number] = max(self.at[number], offset or 0)
                self.known.add(number)
            elif error.fatal() or error.code() in (
                KafkaError.UNKNOWN_TOPIC_OR_PART,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
            ):
                raise KafkaException(error)
            return
        assert number is not None
        assert offset is not None
        self.at[number] = offset + 1
        key, value = message.key(), message.value()
        if isinstance(key, bytes) and key[:1] == rows.JOB:
            self._keep(number, key, value if isinstance(value, bytes) else None)

    def _keep(self, number: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._jobs[number].pop(key, None)
            self._since_ms.pop((number, key), None)
            return
        try:
            job = rows.decode_job(value)
        except rows.NewerRow as error:
            raise CheckFailed(f"{self._topic}/{number}: {error}") from error
        self._jobs[number][key] = (job.topic, number) if job.topic in self._inputs else None
        self._since_ms[number, key] = job.received_ms
