"""
Reads topics partition by partition to their ends: no group is joined, nothing is written.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, Self

import msgspec
from confluent_kafka import KafkaException, Message, TopicPartition

from streams.core.decode import USER_DECODERS, UserFacts
from streams.errors import BadRecord, CheckFailed, Unreachable
from streams.kafka import admin
from streams.kafka.reader import Silent, read_to_ends, reader
from streams.settings import Settings
from streams.state import rows
from streams.worker.names import USERS_CHANGELOG

ANSWER_S: Final = 5.0
POLL_S: Final = 0.2
SILENCE_S: Final = 30.0  # without a word from Kafka, reading ends
TOLD_S: Final = 0.2  # between two lines of progress
POLICY_ROW: Final = rows.position_key("policy")

Say = Callable[[str], None]


class Reading:
    """
    Reads *names* (as in the contract), which have as many partitions as each other.

    say: told of progress.  `with` lets go of Kafka.  Raises Unreachable, and CheckFailed where
    topics are missing.
    """

    def __init__(self, settings: Settings, names: tuple[str, ...], say: Say) -> None:
        self._settings = settings
        self._say = say
        self.partitions_n = admin.count_partitions(settings, names, timeout_s=ANSWER_S)
        self._next: dict[tuple[str, int], int] = {}
        self._consumer = reader(
            settings,
            fetch_wait_max_ms=20,  # or each partition's end is waited for
            queued_max_messages_kbytes=16 * 1024,  # bounds memory
            fetch_queue_backoff_ms=2,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def records(self, name: str, number: int, begin: int | None = None) -> Iterator[Message]:
        """
        Yield the records of partition *number* up to its end, from where the last reading ended.

        begin: another offset to begin at; what is no longer kept is skipped.
        """
        topic = self._settings.topic(name)
        place = (topic, number)
        if begin is not None:
            self._next[place] = begin
        told_s = time.monotonic()
        try:
            self._consumer.list_topics(topic, timeout=ANSWER_S)  # or it learns of the leader late
            self._consumer.assign([TopicPartition(topic, number, self._next.get(place, 0))])
            for batch in read_to_ends(self._consumer, [place], wait_s=POLL_S, silence_s=SILENCE_S):
                for message in batch:
                    if message.topic() == topic and message.partition() == number:
                        self._next[place] = (message.offset() or 0) + 1
                        yield message
                if time.monotonic() - told_s > TOLD_S:
                    told_s = time.monotonic()
                    at = self._next.get(place, 0)
                    self._say(f"reading {topic}/{number} of {self.partitions_n}: {at:,}")
            self._consumer.unassign()
        except KafkaException as error:
            raise self._unreachable(str(error.args[0].str())) from error
        except Silent as silent:
            raise self._unreachable(str(silent)) from silent

    def state(self, number: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the rows of the users' state of one partition, older before newer ones."""
        for message in self.records(USERS_CHANGELOG, number):
            key = message.key()
            if isinstance(key, bytes):
                value = message.value()
                if value is not None:
                    self._check(message, key, value)
                yield key, value

    def _check(self, message: Message, key: bytes, value: bytes) -> None:
        try:
            rows.check(key, value)
        except rows.NewerRow as error:
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            raise CheckFailed(f"{place}: {error}") from error

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"Kafka at {self._settings.bootstrap} did not let its topics be read to their ends "
            f"({why}). Remedy: see that it is up and lets this user read them: "
            "`objections topics check`."
        )


def decided_by(value: bytes) -> tuple[int, str]:
    """Return version and digest of the policy that a partition's row names."""
    found = msgspec.json.decode(rows.decode_text(value), type=dict[str, str | int])
    return int(found["version"]), str(found["digest"])


def facts_in(name: str, message: Message) -> UserFacts | None:
    """Return what a record of input *name* tells of a user, None for a bad one."""
    key, value = message.key(), message.value()
    at_ms = message.timestamp()[1]
    try:
        return USER_DECODERS[name](key if isinstance(key, bytes) else None, value, at_ms)
    except BadRecord:
        return None
