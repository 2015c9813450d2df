"""
Reads how far the data stores are: `purge-acks`, the offsets of consumer groups, ends of outputs.

A thread of its own, without a group: every worker reads every acknowledgement, from the beginning,
and keeps the latest of each, for the partitions it owns and those it may take over.  One above the
end of its output is refused: it says something that cannot be.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.core.levels import Ack
from streams.core.receipts import ACK, FOLLOWED, HIDDEN, PurgeAck
from streams.core.refusals import REFUSALS
from streams.errors import Halt
from streams.kafka.reader import fetch, reader
from streams.settings import Settings
from streams.worker.names import PURGE_ACKS
from streams.worker.tails import Tail, Tails

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

POLL_S: Final = 0.1
FETCH_WAIT_MS: Final = 500
GROUPS_EVERY_S: Final = 1.0
ASK_TIMEOUT_S: Final = 2.0
AGAIN_S: Final = 0.5
WARN_EVERY_S: Final = 10.0

Key = tuple[str, int, int, str]  # store, topic's index, partition, phase


class Followed(NamedTuple):
    """
    What there is to know of a partition that begins to be followed.

    acks: the latest ones, in log order; refused: those that are above the end of their output.
    acks_end: the end of `purge-acks` when it was first read.
    """

    number: int
    acks: list[Ack]
    refused: list[Ack]
    acks_end: int
    tail: Tail


class Listener(Protocol):
    """Who is told; called in the thread."""

    def on_caught_up(self, acks: list[Ack]) -> None:
        """All that was acknowledged so far has been read: the latest of each, in log order."""

    def on_followed(self, assignment: int, followed: Followed) -> None:
        """A partition asked for is followed from now on."""

    def on_acks(self, accepted: list[Ack], refused: list[Ack]) -> None:
        """Stores have acknowledged: all partitions, in log order."""

    def on_failed(self, error: BaseException) -> None:
        """Acknowledgements cannot be read."""


class Acknowledgements(threading.Thread):
    """
    Reads until stopped.

    partitions_n: of every output.
    """

    def __init__(self, settings: Settings, listener: Listener, partitions_n: int) -> None:
        super().__init__(name="acknowledgements", daemon=True)
        self._settings = settings
        self._listener = listener
        self._partitions_n = partitions_n
        self._topics = {settings.topic(name): index for index, name in enumerate(FOLLOWED)}
        self._stopping = threading.Event()
        self._commands: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._latest: dict[Key, Ack] = {}  # in log order
        self._refused: dict[Key, Ack] = {}
        self._ends: dict[tuple[int, int], int] = {}  # topic's index, partition
        self._groups = {each.name: each for each in settings.stores if each.group is not None}
        self._group_clients: dict[str, Consumer] = {}
        self._groups_asked_s = 0.0
        self._warned_s = 0.0
        self._acks_end = 0

    def follow(self, number: int, assignment: int) -> None:
        """Ask for partition *number*, taken over with *assignment*."""
        self._commands.put((number, assignment))

    def stop(self) -> None:
        """End the thread soon; it tells nothing any more."""
        self._stopping.set()

    def run(self) -> None:
        """Read until stopped."""
        consumer = reader(self._settings, fetch_wait_max_ms=FETCH_WAIT_MS)
        tails = Tails(self._settings, self._stopping)
        self._asker = reader(self._settings, isolation="read_uncommitted")
        try:
            self._catch_up(consumer)
            while not self._stopping.is_set():
                self._take(self._poll(consumer))
                if self._groups and time.monotonic() - self._groups_asked_s > GROUPS_EVERY_S:
                    self._ask_groups()
                self._answer(tails)
        except BaseException as error:  # noqa: BLE001  (handed to the event loop)
            if not self._stopping.is_set():
                self._listener.on_failed(error)
        finally:
            tails.close()
            for client in (consumer, self._asker, *self._group_clients.values()):
                client.close()

    def _catch_up(self, consumer: Consumer) -> None:
        """Read all that has been acknowledged so far, and keep the latest of each."""
        consumer.assign([TopicPartition(self._settings.topic(PURGE_ACKS), 0, OFFSET_BEGINNING)])
        found: dict[Key, Ack] = {}
        at_end = False
        while not (at_end or self._stopping.is_set()):
            for message in self._poll(consumer):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    at_end, self._acks_end = True, message.offset() or 0
                elif error is not None:
                    continue
                elif (ack := self._decode(message)) is not None:
                    found.pop(_key(ack), None)
                    found[_key(ack)] = ack
        accepted, _ = self._judge(list(found.values()))
        if at_end:
            self._listener.on_caught_up(accepted)
        logger.info("%d acknowledgements of stores read", len(found))

    def _poll(self, consumer: Consumer) -> "list[Message]":
        messages = fetch(consumer, POLL_S)
        for message in messages:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                continue
            if error.fatal() or error.code() in (
                KafkaError.UNKNOWN_TOPIC_OR_PART,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
            ):
                name = self._settings.topic(PURGE_ACKS)
                raise Halt(f"{name} cannot be read: {error.str()}; see `objections topics check`")
            self._warn("reading acknowledgements: %s", error.str())
        return messages

    def _take(self, messages: "list[Message]") -> None:
        acks = [self._decode(each) for each in messages if each.error() is None]
        found = [ack for ack in acks if ack is not None]
        if found:
            self._tell(found)

    def _tell(self, acks: list[Ack]) -> None:
        accepted, refused = self._judge(acks)
        self._listener.on_acks(accepted, refused)

    def _decode(self, message: "Message") -> Ack | None:
        """Return an acknowledgement; None for one that says nothing here."""
        value, offset = message.value(), message.offset()
        if value is None or offset is None:
            return None  # a store was taken off: what it has said stands
        try:
            record = msgspec.json.decode(value, type=PurgeAck)
        except REFUSALS:  # its words may quote what somebody sent here by mistake
            self._warn("%s/0/%d is no acknowledgement: expected %s", message.topic(), offset, ACK)
            return None
        topic = self._topics.get(record.topic)
        if topic is None or record.store in self._groups:
            return None
        at_ms = message.timestamp()[1]
        return Ack(
            record.store, topic, record.partition, record.phase, record.offset, at_ms, offset
        )

    def _judge(self, acks: list[Ack]) -> tuple[list[Ack], list[Ack]]:
        """Return what can be and what cannot be, and remember both."""
        accepted: list[Ack] = []
        refused: list[Ack] = []
        for ack in acks:
            key = _key(ack)
            if self._is_above_end(ack):
                refused.append(ack)
                self._refused[key] = ack
                logger.warning(
                    "%s acknowledges %s/%d up to %d, where it ends at %d: refused",
                    ack.store,
                    self._settings.topic(FOLLOWED[ack.topic]),
                    ack.partition,
                    ack.offset,
                    self._ends.get((ack.topic, ack.partition), 0),
                )
            else:
                accepted.append(ack)
                self._latest.pop(key, None)
                self._latest[key] = ack
        return accepted, refused

    def _is_above_end(self, ack: Ack) -> bool:
        place = ack.topic, ack.partition
        if ack.partition >= self._partitions_n:
            return True
        if ack.offset > self._ends.get(place, 0):
            name = TopicPartition(self._settings.topic(FOLLOWED[ack.topic]), ack.partition)
            self._ends[place] = self._insist(
                f"the end of {name.topic}/{ack.partition}",
                lambda: self._asker.get_watermark_offsets(name, ASK_TIMEOUT_S),
            )[1]
        return ack.offset > self._ends[place] if place in self._ends else ack.offset > 0

    def _insist(self, what: str, ask: Callable[[], tuple[int, int] | None]) -> tuple[int, int]:
        while not self._stopping.is_set():
            try:
                found = ask()
            except KafkaException as error:
                self._warn("acknowledgements wait for %s: %s", what, error.args[0].str())
                found = None
            if found is not None:
                return found
            self._stopping.wait(AGAIN_S)
        return 0, 0

    def _ask_groups(self) -> None:
        """Take what the groups of stores have committed as what they have hidden."""
        self._groups_asked_s = time.monotonic()
        found: list[Ack] = []
        for name, store in self._groups.items():
            assert store.group is not None
            if name not in self._group_clients:
                self._group_clients[name] = reader(self._settings, group=store.group)
            places = [
                TopicPartition(self._settings.topic(topic), number)
                for topic in store.topics
                for number in range(self._partitions_n)
            ]
            try:
                answer = self._group_clients[name].committed(places, ASK_TIMEOUT_S)
            except KafkaException as error:
                self._warn("store %s, group %s: %s", name, store.group, error.args[0].str())
                continue
            now_ms = int(time.time() * 1000)
            for tp in answer:
                if tp.error is None and tp.offset >= 0:
                    topic = self._topics[tp.topic]
                    ack = Ack(name, topic, tp.partition, HIDDEN, tp.offset, now_ms)
                    known = self._latest.get(_key(ack)), self._refused.get(_key(ack))
                    if ack.offset not in {each.offset for each in known if each is not None}:
                        found.append(ack)
        if found:
            self._tell(found)

    def _answer(self, tails: Tails) -> None:
        """Tell of the partitions that were asked for."""
        while not self._stopping.is_set():
            try:
                number, assignment = self._commands.get_nowait()
            except queue.Empty:
                return
            acks = [ack for ack in self._latest.values() if ack.partition == number]
            refused = [ack for ack in self._refused.values() if ack.partition == number]
            tail = tails.read(number, acks)
            if tail is not None:
                self._listener.on_followed(
                    assignment, Followed(number, acks, refused, self._acks_end, tail)
                )

    def _warn(self, text: str, *about: object) -> None:
        """Log, but not for ever."""
        if time.monotonic() - self._warned_s > WARN_EVERY_S:
            self._warned_s = time.monotonic()
            logger.warning(text, *about)


def _key(ack: Ack) -> Key:
    return ack.store, ack.topic, ack.partition, ack.phase
