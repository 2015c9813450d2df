"""
What a worker asks Kafka when it takes partitions over: where to begin, and what is the end.

Order matters: first the group's committed offsets (the broker holds the answer back while a
transaction with offsets is pending), only then the changelogs' ends.  The other way round a
frozen worker's transaction could commit in between: its offsets would count, its rows would be
missed, and an objection would be lost.  A changelog's end is the log's, not the last stable
offset: behind an open transaction there may be committed rows.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import Halt
from streams.kafka.denied import denied, is_denied
from streams.kafka.reader import ends, extent, reader
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Store
from streams.worker import left_open
from streams.worker.names import (
    CHANGELOGS,
    DECISIONS,
    Followed,
)

logger = logging.getLogger(__name__)

ASK_TIMEOUT_S: Final = 1.0  # a revocation waits for the answer
ASK_AGAIN_S: Final = 0.05
LOGS: Final = (*CHANGELOGS, *DECISIONS)
# Of waiting for a transaction that holds offsets back; one that is on its way takes milliseconds.
LEFT_OPEN_S: Final = 0.3
LOOK_AGAIN_S: Final = 2.0  # whether it was left open by a worker that is gone
ABORTED_WITHIN_S: Final = 15.0  # of its timeout: Kafka looks for overdue transactions every 10 s

T = TypeVar("T")


class Cancelled(Exception):
    """The partitions were lost while they were being restored."""


class Takeover(NamedTuple):
    """
    Positions, by partition and then by the topic's name in the contract.

    committed: the group's offsets, where it has them.
    log_ends: of the changelogs, open transactions included, and of the outputs of decisions.
    input_ends: grants wait until the user topics are read so far.
    """

    committed: dict[int, dict[str, int]]
    log_ends: dict[int, dict[str, int]]
    input_ends: dict[int, dict[str, int]]


def ask(
    settings: Settings,
    consumer: Consumer,
    partitions: list[int],
    cancelled: threading.Event,
    followed: Followed,
) -> Takeover:
    """Return where *partitions* stand; waits for Kafka as long as it takes, or for *cancelled*."""
    asked = _Asked(settings, consumer, partitions, cancelled)
    committed = asked.committed(followed.all)
    return Takeover(committed, asked.log_ends(), asked.input_ends(followed.all))


def know(consumer: Consumer, name: str) -> None:
    """Let *consumer* learn who leads topic *name*: by itself it takes a second or two."""
    with suppress(KafkaException):
        consumer.list_topics(name, timeout=ASK_TIMEOUT_S)


def begin_at(place: str, committed: int | None, end: int, store: Store, topic: str) -> int:
    """
    Return where to read an input from: the lower of the group's word and the changelog's.

    They are written in one transaction, so a difference means that one of them has lost
    something; reading again is harmless.
    """
    data = store.get(rows.position_key(topic))
    folded = 0 if data is None else rows.decode_number(data)
    if committed is None:
        if folded:
            logger.warning("%s: the group has no offset, the state has %d: read on", place, folded)
        committed = folded
    if max(committed, folded) > end:
        logger.warning("%s ends at %d, before %d: read from its beginning", place, end, folded)
        return 0
    if committed != folded:
        logger.warning(
            "%s: the group's offset is %d, the state's is %d: read from the lower",
            place,
            committed,
            folded,
        )
    return min(committed, folded)


def log_ends(
    settings: Settings,
    consumer: Consumer,
    partitions: list[int],
    cancelled: threading.Event,
    topics: tuple[str, ...] = LOGS,
) -> dict[int, dict[str, int]]:
    """Return the ends of *topics* as they are now; waits as `ask` does."""
    return _Asked(settings, consumer, partitions, cancelled).log_ends(topics)


class _Asked:
    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        partitions: list[int],
        cancelled: threading.Event,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._partitions = partitions
        self._cancelled = cancelled
        self._look_s = LEFT_OPEN_S
        self._told = False

    def committed(self, topics: tuple[str, ...]) -> dict[int, dict[str, int]]:
        wanted = [
            TopicPartition(self._settings.topic(topic), number)
            for number in self._partitions
            for topic in topics
        ]
        found = self._insist(
            "the group's offsets",
            lambda: self._consumer.committed(wanted, ASK_TIMEOUT_S),
            self._look_who_holds_back,
        )
        names = {self._settings.topic(topic): topic for topic in topics}
        committed: dict[int, dict[str, int]] = {number: {} for number in self._partitions}
        for tp in found:
            if tp.error is not None:
                raise Halt(f"{tp.topic}/{tp.partition}: no committed offset to be had: {tp.error}")
            if tp.offset >= 0:
                committed[tp.partition][names[tp.topic]] = tp.offset
        return committed

    def log_ends(self, topics: tuple[str, ...] = LOGS) -> dict[int, dict[str, int]]:
        names = {topic: self._settings.topic(topic) for topic in topics}
        places = [(name, number) for name in names.values() for number in self._partitions]
        consumer = reader(self._settings, isolation="read_uncommitted")
        try:
            found = self._insist(
                "the changelogs' ends", lambda: ends(consumer, places, ASK_TIMEOUT_S)
            )
        finally:
            consumer.close()
        return {
            number: {topic: found[name, number] for topic, name in names.items()}
            for number in self._partitions
        }

    def input_ends(self, topics: tuple[str, ...]) -> dict[int, dict[str, int]]:
        return {
            number: {topic: self._input_end(topic, number) for topic in topics}
            for number in self._partitions
        }

    def _input_end(self, topic: str, number: int) -> int:
        full_name = self._settings.topic(topic)
        return self._insist(
            f"the end of {full_name}/{number}",
            lambda: extent(self._consumer, (full_name, number), ASK_TIMEOUT_S)[1],
        )

    def _look_who_holds_back(self, waited_s: float) -> None:
        """End what dead workers have left open; in the end say what else may be wrong."""
        if waited_s >= self._look_s:
            self._look_s = waited_s + LOOK_AGAIN_S
            try:
                left_open.roll_back(self._settings, self._partitions)
            except KafkaException as error:
                logger.info("what was left open is not rolled back yet: %s", error.args[0].str())
        self._told = self._told or self._tell_of_hanging(waited_s)

    def _tell_of_hanging(self, waited_s: float) -> bool:
        """Say what may be wrong once no transaction of ours can be open any more."""
        limit_s = self._settings.transaction_timeout_ms / 1000 + ABORTED_WITHIN_S
        if waited_s < limit_s:
            return False
        logger.warning(
            "Kafka has held back the offsets of group %s for %.0f s, longer than a transaction may "
            "be open. Where it answers otherwise, one hangs: see `kafka-transactions.sh "
            "--bootstrap-server %s find-hanging --broker-id N` for each broker, and end it with "
            "its `abort`. Nothing is lost meanwhile; these partitions wait",
            self._settings.group,
            waited_s,
            self._settings.bootstrap,
        )
        return True

    def _insist(
        self,
        what: str,
        ask_once: Callable[[], T],
        meanwhile: Callable[[float], None] = lambda _waited_s: None,
    ) -> T:
        """
        Return what *ask_once* does, once it does.

        meanwhile: is told after each try for how many seconds it did not.
        """
        begun_s = time.monotonic()
        while not self._cancelled.is_set():
            try:
                return ask_once()
            except KafkaException as error:
                found: KafkaError = error.args[0]
                if is_denied(found):
                    raise Halt(denied(self._settings, found, f"asking for {what}")) from error
                if found.fatal():
                    raise Halt(f"{what}: {found.str()}") from error
                logger.info("restore waits for %s: %s", what, found.str())
                meanwhile(time.monotonic() - begun_s)
                self._cancelled.wait(ASK_AGAIN_S)
        raise Cancelled
