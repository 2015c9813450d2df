"""
Topics as the commands around dead letters read them: to their ends of now, joining no group.

Raises Unreachable where Kafka does not answer, UsageProblem where topics are missing.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.dead_letters.letter import ACCOUNT_LINKS, INPUTS, Place
from streams.errors import CommandError, Unreachable, UsageProblem
from streams.kafka import admin
from streams.kafka.denied import perhaps_hidden
from streams.kafka.reader import ends, fetch, reader
from streams.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Message

DEAD_LETTERS: Final = "dead-letters"
USERS_CHANGELOG: Final = "objections-users-changelog"
NEEDED: Final = (*INPUTS, DEAD_LETTERS, USERS_CHANGELOG)

LOOK_TIMEOUT_S = 5.0  # for the first answer: somebody waits
ANSWER_TIMEOUT_S: Final = 30.0  # without a word from Kafka, reading ends
POLL_S: Final = 0.2
BATCH_RECORDS: Final = 1_000
FETCHED_KBYTES_MAX: Final = 32 * 1024  # of all partitions, whatever the records' size
FETCHED_RECORDS_MIN: Final = 5_000  # of a partition; each costs more than its bytes
PROGRESS_S: Final = 5.0

Spot = tuple[str, int]  # a topic's name in the contract, and a partition
T = TypeVar("T")


class Log:
    """
    Reads a prefix's topics; use it with `with`.

    inputs: those there are.  partitions: the numbers all topics have.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        cluster = admin.look(admin.connect(settings), settings, timeout_s=LOOK_TIMEOUT_S)
        absent = [name for name in NEEDED if name not in cluster.topics]
        missing = [settings.topic(name) for name in absent if name != ACCOUNT_LINKS]
        if missing:
            raise UsageProblem(
                f"Kafka at {settings.bootstrap} has no topic {', '.join(missing)}: expected those "
                "of OBJECTIONS_TOPIC_PREFIX. Remedy: set the prefix the workers have, or make the "
                f"topics with `objections topics apply`.{perhaps_hidden(settings)}"
            )
        self.inputs = tuple(name for name in INPUTS if name not in absent)
        self.partitions = range(cluster.topics[DEAD_LETTERS].partitions)
        self.names = {settings.topic(name): name for name in NEEDED}
        self._said = admin.LastWords(settings)
        self._consumer = reader(
            settings,
            fetch_wait_max_ms=50,
            fetch_queue_backoff_ms=2,
            queued_max_messages_kbytes=FETCHED_KBYTES_MAX,
            queued_min_messages=FETCHED_RECORDS_MIN,
            error_cb=self._said.remember,
        )
        self._ask(lambda: self._consumer.list_topics(timeout=ANSWER_TIMEOUT_S))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._consumer.close()

    def committed(self, spots: list[Spot]) -> dict[Spot, int]:
        """Return how far the workers' group has got; 0 where that is not known."""
        wanted = [TopicPartition(self.settings.topic(name), number) for name, number in spots]
        found = self._ask(lambda: self._consumer.committed(wanted, ANSWER_TIMEOUT_S))
        for each in found:
            if each.error is not None:
                raise CommandError(
                    f"Kafka at {self.settings.bootstrap} does not tell the offset of group "
                    f"{self.settings.group} in {each.topic}/{each.partition}: {each.error}"
                )
        return {(self.names[each.topic], each.partition): max(each.offset, 0) for each in found}

    def read(self, begins: Mapping[Spot, int], what: str) -> "Generator[Message]":
        """
        Yield the committed records from *begins* to the ends of now; says *what* if it takes long.

        What a transaction still open holds back is left out.
        """
        found = self._ends(begins)
        left = {
            (self.settings.topic(spot[0]), spot[1]): end
            for spot, end in found.items()
            if begins[spot] < end
        }
        if not left:
            return
        records = sum(max(end - begins[spot], 0) for spot, end in found.items())
        self._consumer.assign(
            [
                TopicPartition(topic, number, begins[self.names[topic], number])
                for topic, number in left
            ]
        )
        try:
            yield from self._read(left, _Progress(what, records))
        finally:
            self._consumer.unassign()

    def record_at(self, place: Place) -> "Message | None":
        """Return the record at *place*; None where it is no longer kept."""
        spot = self.names[place.topic], place.partition
        if place.offset >= self._ends([spot])[spot]:
            return None
        with closing(self.read({spot: place.offset}, str(place))) as messages:
            first = next(messages, None)  # behind the place, where that was compacted or cut away
        return first if first is not None and first.offset() == place.offset else None

    def _read(
        self, left: dict[tuple[str, int], int], progress: "_Progress"
    ) -> "Generator[Message]":
        heard_s = time.monotonic()
        while left:
            messages = fetch(self._consumer, POLL_S, BATCH_RECORDS)
            if not messages:
                if time.monotonic() - heard_s > ANSWER_TIMEOUT_S:
                    raise self._silent(f"partitions left: {sorted(left)}")
                continue
            for message in messages:
                spot = message.topic() or "", message.partition() or 0
                error = message.error()
                if error is not None:
                    self._check(error, spot, left)
                    continue
                end, offset = left.get(spot), message.offset() or 0
                if end is None:
                    continue
                if offset >= end - 1:
                    del left[spot]
                if offset < end:
                    progress.one()
                    yield message
            heard_s = time.monotonic()

    def _check(self, error: KafkaError, spot: tuple[str, int], left: dict[Spot, int]) -> None:
        """Take the end of a partition in; raise where Kafka refuses to let it be read."""
        if error.code() == KafkaError._PARTITION_EOF:
            left.pop(spot, None)
        elif error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            where = f"{spot[0]}/{spot[1]}"
            raise CommandError(
                f"Kafka at {self.settings.bootstrap} refused reading {where}: {error.str()}"
            )
        else:
            self._said.remember(error)

    def _ends(self, spots: Iterable[Spot]) -> dict[Spot, int]:
        """Return the ends of now: those of what is committed."""
        wanted = [(self.settings.topic(name), number) for name, number in spots]
        found = self._ask(lambda: ends(self._consumer, wanted, ANSWER_TIMEOUT_S))
        return {(self.names[topic], number): end for (topic, number), end in found.items()}

    def _ask(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except KafkaException as error:
            raise self._silent(str(error.args[0])) from error

    def _silent(self, what: str) -> Unreachable:
        why = f" ({self._said.error})" if self._said.error else ""
        return Unreachable(
            f"Kafka at {self.settings.bootstrap} does not answer: {what}{why}. Remedy: see that "
            "all brokers are up, then try again."
        )


class _Progress:
    """Says now and then, to standard error, how far reading has got."""

    def __init__(self, what: str, records: int) -> None:
        self._what, self._records = what, records
        self._done = 0
        self._said_s = time.monotonic()

    def one(self) -> None:
        self._done += 1
        if self._done % BATCH_RECORDS == 0 and time.monotonic() - self._said_s > PROGRESS_S:
            self._said_s = time.monotonic()
            print(f"reading {self._what}: {self._done} of {self._records}", file=sys.stderr)
