"""
Finds the receipts of an objection in the topics, and what the stores that are late have said.

Without a group, so it disturbs nobody.  `receipts` is sorted by user and not by objection: with the
user's id one partition is read, without it all of them.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec
from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from streams.core.levels import Ack, Levels
from streams.core.receipts import ERASED, FOLLOWED, HIDDEN, Phase, PurgeAck, Receipt
from streams.core.refusals import REFUSALS
from streams.errors import CheckFailed, Unreachable
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import Silent, extent, read_to_ends, reader
from streams.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Message

RECEIPTS: Final = "receipts"
PURGE_ACKS: Final = "purge-acks"
ANSWER_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.2
TELL_EVERY_S: Final = 2.0


class Found(NamedTuple):
    """The latest record of a receipt, and the partition that its user's records lie in."""

    receipt: Receipt
    partition: int


class Reached(NamedTuple):
    """How far a store is in one output: what it has acknowledged (None: nothing), and the end."""

    place: str
    offset: int | None
    end: int


class Lateness(NamedTuple):
    """What a store has still to do for a receipt, since when, and where it stands."""

    phase: Phase
    since: str
    reached: list[Reached]


class Finder:
    """
    Looks for the receipts of *objection_id*, of all users or one; `with` lets go of Kafka.

    tell: told now and then how far reading has got.  Raises Unreachable, and CheckFailed where
    the topics are not there.
    """

    def __init__(
        self,
        settings: Settings,
        objection_id: str,
        user_id: str | None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._objection_id = objection_id
        self._user_id = user_id
        self._subjects = settings.subjects()
        self._tell = tell
        self._found: dict[bytes, Found] = {}
        self._acks: dict[str, Ack] = {}  # in log order
        self._topics = {settings.topic(name): index for index, name in enumerate(FOLLOWED)}
        self._consumer = reader(settings, fetch_wait_max_ms=100)
        self._read_n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self) -> list[Found]:
        """Return the receipts as of now, in the order of their keys."""
        try:
            left = 0
            if not self._consumer.assignment():
                left = self._begin()
            else:
                self._consumer.assign(self._consumer.position(self._consumer.assignment()))
            self._read_on(left)
        except KafkaException as error:
            raise unreachable(self._settings, str(error.args[0].str())) from error
        except Silent as silent:
            raise unreachable(self._settings, str(silent)) from silent
        return [found for _, found in sorted(self._found.items())]

    def lateness(self, found: Found) -> dict[str, Lateness]:
        """Return the stores that a published receipt waits for."""
        receipt = found.receipt
        if receipt.published_at is None or receipt.completed_at is not None:
            return {}
        late: dict[str, Lateness] = {}
        levels = self._levels(found.partition)
        groups = {each.name for each in self._settings.stores if each.group is not None}
        for name, progress in receipt.stores.items():
            if progress.hidden_at is not None and (progress.erased_at or name in groups):
                continue
            phase: Phase = HIDDEN if progress.hidden_at is None else ERASED
            since = max(receipt.published_at, receipt.reopened_at or "")
            try:
                reached = self._reached(name, phase, found.partition, levels)
            except KafkaException as error:
                raise unreachable(self._settings, str(error.args[0].str())) from error
            late[name] = Lateness(phase, since, reached)
        return late

    def _begin(self) -> int:
        """Begin to read; return about how many records there are."""
        name = self._settings.topic(RECEIPTS)
        metadata = self._consumer.list_topics(name, timeout=ANSWER_TIMEOUT_S).topics[name]
        numbers = sorted(metadata.partitions)
        if metadata.error is not None or not numbers:
            raise CheckFailed(
                f"{name} is not there on {self._settings.bootstrap}; set OBJECTIONS_TOPIC_PREFIX "
                "to the prefix of the service's topics, or make them: `objections topics apply`"
            )
        if self._user_id is not None:
            numbers = [partition_of(self._user_id.encode(), len(numbers))]
        self._places = [*((name, number) for number in numbers), self._acks_place]
        left = sum(extent(self._consumer, each, ANSWER_TIMEOUT_S)[1] for each in self._places)
        self._consumer.assign([TopicPartition(*each, OFFSET_BEGINNING) for each in self._places])
        return left

    @property
    def _acks_place(self) -> tuple[str, int]:
        return self._settings.topic(PURGE_ACKS), 0

    def _read_on(self, left: int) -> None:
        """Read until every place has been at its end; there are about *left* records."""
        told_s = time.monotonic()
        for records in read_to_ends(
            self._consumer, self._places, wait_s=POLL_S, silence_s=ANSWER_TIMEOUT_S
        ):
            for message in records:
                self._take(message)
            now_s = time.monotonic()
            if now_s - told_s > TELL_EVERY_S:
                told_s = now_s
                self._tell(f"{self._read_n} receipts read, of about {left} records")

    def _take(self, message: "Message") -> None:
        place = message.topic() or "", message.partition() or 0
        key, value = message.key(), message.value()
        if place == self._acks_place:
            self._take_ack(message)
            return
        self._read_n += 1
        if key is None or value is None or not self._may_be_ours(key):
            return
        try:
            receipt = msgspec.json.decode(value, type=Receipt)
        except REFUSALS as error:
            raise CheckFailed(
                f"{place[0]}/{place[1]}/{message.offset()} is no receipt: expected what "
                "`objections worker` writes. Remedy: find out who else writes to this topic."
            ) from error
        if receipt.objection_id != self._objection_id:
            return
        if self._user_id is not None:
            where = f"{place[0]}/{place[1]}/{message.offset()}"
            self._subjects.check_record(message.headers(), where)
            if receipt.user_id != self._subjects.of(self._user_id):
                return
        self._found[key] = Found(receipt, place[1])

    def _may_be_ours(self, key: bytes) -> bool:
        return key.rpartition(b"/")[0].endswith(b"/" + self._objection_id.encode())

    def _take_ack(self, message: "Message") -> None:
        value = message.value()
        try:
            record = msgspec.json.decode(value or b"", type=PurgeAck)
        except REFUSALS:
            return  # the worker says so
        topic = self._topics.get(record.topic)
        if topic is not None:
            at_ms = message.timestamp()[1]
            self._acks.pop(record.key, None)
            self._acks[record.key] = Ack(
                record.store, topic, record.partition, record.phase, record.offset, at_ms
            )

    def _levels(self, partition: int) -> Levels:
        levels = Levels()
        for ack in self._acks.values():
            if ack.partition == partition:
                levels.acknowledge(ack)
        return levels

    def _reached(self, name: str, phase: Phase, number: int, levels: Levels) -> list[Reached]:
        """Return where a store stands in what it follows, as configured here, or as it has said."""
        store = next((each for each in self._settings.stores if each.name == name), None)
        if store is not None:
            topics: Iterable[str] = store.topics
        else:
            said = {ack.topic for ack in self._acks.values() if ack.store == name}
            topics = [FOLLOWED[index] for index in sorted(said)]
        found = []
        committed: dict[str, int] = {}
        if store is not None and store.group is not None:
            committed = self._committed(store.group, store.topics, number)
        for topic in topics:
            full = self._settings.topic(topic)
            offset: int | None = levels.get(name, FOLLOWED.index(topic)).offset(phase)
            if store is not None and store.group is not None:
                offset = committed.get(full)
            _, end = extent(self._consumer, (full, number), ANSWER_TIMEOUT_S)
            found.append(Reached(f"{full}/{number}", offset or None, end))
        return found

    def _committed(self, group: str, topics: Iterable[str], number: int) -> dict[str, int]:
        client = reader(self._settings, group=group)
        try:
            asked = [TopicPartition(self._settings.topic(topic), number) for topic in topics]
            answer = client.committed(asked, ANSWER_TIMEOUT_S)
        finally:
            client.close()
        return {tp.topic: tp.offset for tp in answer if tp.error is None and tp.offset >= 0}


def unreachable(settings: Settings, why: str) -> Unreachable:
    """Return the error of a Kafka that does not let receipts be read."""
    return Unreachable(
        f"Kafka at {settings.bootstrap} did not let receipts be read ({why}). Remedy: "
        "see that it is up, or name another with --bootstrap or OBJECTIONS_BOOTSTRAP."
    )
