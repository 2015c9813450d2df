"""
Reads the inputs from Kafka, in rounds, in a thread of its own.

A round is what had arrived by the time the last one was taken: small and quick when idle, large
under load.  It fetches on only while few rounds are unfinished, so memory is bounded.
librdkafka runs its rebalance callbacks within `poll`: they hand over to the event loop and wait,
and polling goes on while nothing is fetched.  A partition is read only once it is started (its
state is restored); its content only once objections, ages and notices have been read to the end
they had at take-over.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import Halt
from streams.kafka.client_log import CLIENT_LOGGER
from streams.settings import Settings
from streams.worker.intake import Fetched
from streams.worker.names import CONTENT, INPUTS, USER_TOPICS
from streams.worker.partition_counts import check_assignment
from streams.worker.rounds import Assigned, Listener, Place, Round, Start

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

POLL_S: Final = 0.1
FETCH_WAIT_MS: Final = 15  # the broker collects records for so long,
FETCH_BYTES: Final = 100_000  # unless there are so many
# Under load one round commits while the next is folded.  Otherwise folding takes no time, and a
# round taken early would only wait for the last one, and let those behind it wait for two.
UNFINISHED_ROUNDS_MAX: Final = 2
LARGE_ROUND_RECORDS: Final = 300
AGAIN_S: Final = 0.002  # between tries of a command that cannot be carried out yet
LAG_EVERY_S: Final = 0.25
METADATA_EVERY: Final = "topic.metadata.refresh.interval.ms"
METADATA_MS: Final = 10_000  # how late partitions that somebody has added are noticed
PAUSE_AFTER_S: Final = 1.0  # of waiting for room: then poll goes on with nothing being read


class NotYet(Exception):
    """A command cannot be carried out yet: poll, and try again."""


class Fetch(threading.Thread):
    """The consumer's thread.  All methods but `run` may be called from other threads."""

    def __init__(self, settings: Settings, listener: Listener, partitions_n: int) -> None:
        super().__init__(name="fetch", daemon=True)
        self.idle_since_s = time.time()  # the last moment at which nothing was left to fetch
        self._assignment = 0
        self._generation = 0
        self._settings = settings
        self._partitions_n = partitions_n
        self._listener = listener
        self._names = {settings.topic(name): name for name in INPUTS}
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._unfinished = 0
        self._rounds_max = 1
        self._stopping = threading.Event()
        self._starts: dict[int, Start] = {}
        self._waiting: set[int] = set()  # partitions whose content is not read yet
        self._next: dict[Place, int] = {}  # read up to here, control records included
        self._handed: dict[Place, int] = {}  # records handed over up to here
        self._lag: dict[Place, int] = {}
        self._lag_measured_s = 0.0
        self._stash: list[Message] = []
        self._consumer = Consumer(self._config(), logger=CLIENT_LOGGER)

    def stop(self) -> None:
        """Leave the group and end the thread; no callback is made any more."""
        self._stopping.set()
        with self._room:
            self._room.notify_all()

    def start_partition(self, start: Start, assignment: int) -> None:
        """Begin to read a restored partition, unless it was lost meanwhile."""
        self._commands.put(lambda: self._start(start, assignment))
        self._wake()

    def rewind(self, positions: dict[int, dict[str, int]], assignment: int) -> None:
        """Read again from *positions*, by partition and input: a new generation begins."""
        self._commands.put(lambda: self._rewind(positions, assignment))
        self._wake()

    def finished(self, generation: int) -> None:
        """Note that a round is done with: there is room for another."""
        with self._room:
            if generation == self._generation:
                self._unfinished -= 1
                self._room.notify_all()

    def has_unfinished(self) -> bool:
        """Whether a round has been handed over and is not done with."""
        return self._unfinished > 0

    def _wake(self) -> None:
        with self._room:
            self._room.notify_all()

    def lag(self) -> dict[Place, int]:
        """Return the records between the end of each input and what has been read, as of lately."""
        return self._lag

    def run(self) -> None:
        """Poll until stopped."""
        try:
            self._consumer.subscribe(
                list(self._names),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._stopping.is_set():
                self._run_commands()
                if self._has_room():
                    self._take(POLL_S if self._commands.empty() else AGAIN_S)
                if time.monotonic() - self._lag_measured_s > LAG_EVERY_S:
                    self._measure_lag()
        except BaseException as error:  # noqa: BLE001  (handed to the event loop)
            if not self._stopping.is_set():
                self._listener.on_failed(error)
        finally:
            self._stopping.set()
            self._consumer.close()

    def _config(self) -> dict[str, Any]:
        settings = self._settings
        return settings.kafka(
            **{
                METADATA_EVERY: dict(settings.kafka_options).get(METADATA_EVERY, METADATA_MS),
                "group.id": settings.group,
                "session.timeout.ms": settings.session_timeout_ms,
                "heartbeat.interval.ms": max(settings.session_timeout_ms // 5, 100),
                "max.poll.interval.ms": settings.rebalance_timeout_ms,
                "partition.assignment.strategy": "range",  # equal numbers stay together
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                # A fetch for each record that arrives keeps the broker busier than all else does.
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.min.bytes": FETCH_BYTES,
                "socket.nagle.disable": True,
                "fetch.queue.backoff.ms": 2,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 32 * 1024,
            }
        )

    def _run_commands(self) -> None:
        """Carry out what was asked for; what cannot be yet is tried again after a poll."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            try:
                command()
            except NotYet:
                self._commands.put(command)
                return

    def _measure_lag(self) -> None:
        """Look how far the ends are; only here, as the call waits for the thread that polls."""
        found: dict[Place, int] = {}
        for (topic, partition), at in self._next.items():
            place = TopicPartition(self._settings.topic(topic), partition)
            try:
                _, end = self._consumer.get_watermark_offsets(place, cached=True)
            except KafkaException:
                continue  # nothing was fetched of it yet
            found[topic, partition] = max(end - at, 0)
        self._lag = found
        self._lag_measured_s = time.monotonic()

    def _has_room(self) -> bool:
        """Wait a little for room for another round; keep polling when it takes long."""
        deadline_s = time.monotonic() + PAUSE_AFTER_S
        with self._room:
            while self._unfinished >= self._rounds_max:
                if self._stopping.is_set() or not self._commands.empty():
                    self._room.wait(AGAIN_S)
                    return False
                if time.monotonic() > deadline_s:
                    break
                self._room.wait(POLL_S)
            else:
                return True
        self._poll_only()
        return False

    def _poll_only(self) -> None:
        """Serve rebalances while the worker cannot take more: Kafka may be away."""
        paused = [TopicPartition(self._settings.topic(t), p) for t, p in self._reading()]
        self._consumer.pause(paused)
        message = self._consumer.poll(POLL_S)
        if message is not None:
            self._stash.append(message)
        still = set(self._reading())
        names = self._names
        self._consumer.resume([tp for tp in paused if (names[tp.topic], tp.partition) in still])

    def _reading(self) -> list[Place]:
        return [
            (topic, partition)
            for partition in self._starts
            for topic in (USER_TOPICS if partition in self._waiting else INPUTS)
        ]

    def _take(self, timeout_s: float) -> None:
        messages = self._stash
        self._stash = []
        first = self._consumer.poll(0 if messages else timeout_s)
        if first is not None:
            messages.append(first)
            messages += self._consumer.consume(self._settings.batch_records, 0)
        if not messages:
            self.idle_since_s = time.time()
            return
        batches = self._sort(messages)
        if batches:
            records_n = sum(len(each.messages) for found in batches.values() for each in found)
            with self._room:
                self._unfinished += 1
                self._rounds_max = UNFINISHED_ROUNDS_MAX if records_n >= LARGE_ROUND_RECORDS else 1
            self._listener.on_round(Round(self._generation, batches))
        if self._waiting:
            self._catch_up()

    def _sort(self, messages: "Iterable[Message]") -> dict[str, list[Fetched]]:
        """Return the records by topic and partition; note the ends that were reached."""
        by_place: dict[Place, list[Message]] = {}
        begins = dict(self._handed)
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                _judge(error)
                continue
            place = self._names.get(topic or "", ""), -1 if partition is None else partition
            if place not in self._next or offset is None:
                continue  # of a partition that is held or was lost
            if error is None:
                by_place.setdefault(place, []).append(message)
                self._handed[place] = self._next[place] = offset + 1
            else:
                self._next[place] = offset
        batches: dict[str, list[Fetched]] = {}
        for topic in INPUTS:
            for (name, partition), found in by_place.items():
                if name == topic:
                    begin = begins[name, partition]
                    fetched = Fetched(topic, partition, found, begin)
                    batches.setdefault(topic, []).append(fetched)
        return batches

    def _catch_up(self) -> None:
        """Begin to read the content of partitions whose user topics have been read."""
        for partition in sorted(self._waiting):
            start = self._starts[partition]
            if any(self._next[topic, partition] < start.ends[topic] for topic in USER_TOPICS):
                continue
            try:
                self._read_from({(CONTENT, partition): start.positions[CONTENT]})
            except NotYet:
                self._commands.put(self._catch_up)
                return
            self._waiting.discard(partition)
            handed = {topic: self._handed[topic, partition] for topic in USER_TOPICS}
            self._listener.on_caught_up(partition, handed)

    def _start(self, start: Start, assignment: int) -> None:
        """Read the user topics; content follows when they are read to their end at take-over."""
        if assignment != self._assignment:
            return
        number = start.partition
        self._read_from({(topic, number): start.positions[topic] for topic in USER_TOPICS})
        self._starts[number] = start
        self._waiting.add(number)
        self._catch_up()

    def _rewind(self, positions: dict[int, dict[str, int]], assignment: int) -> None:
        """Read again from *positions*; partitions go through the same as when they started."""
        if assignment != self._assignment:
            return
        self._new_generation()
        for partition, offsets in positions.items():
            start = self._starts.get(partition)
            if start is None:
                continue
            self._consumer.pause([TopicPartition(self._settings.topic(CONTENT), partition)])
            self._next.pop((CONTENT, partition), None)
            self._start(start._replace(positions=offsets), assignment)
        self._listener.on_rewound(self._generation)

    def _read_from(self, offsets: dict[Place, int]) -> None:
        """
        Read inputs from *offsets* on; what was fetched of them before is dropped.

        Raises `NotYet`, with none of them read.
        """
        for (topic, partition), offset in offsets.items():
            self._next.pop((topic, partition), None)
            place = TopicPartition(self._settings.topic(topic), partition, offset)
            self._consumer.resume([place])  # in this order: a pause may void a position before it
            try:
                self._consumer.seek(place)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:
                    raise
                raise NotYet from error  # librdkafka carries an assignment out in the background
        self._next.update(offsets)
        self._handed.update(offsets)

    def _new_generation(self) -> None:
        with self._room:
            self._generation += 1
            self._unfinished = 0
            self._stash = []
            self._room.notify_all()

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        check_assignment(self._settings, assigned, self._partitions_n)
        self._new_generation()
        self._assignment += 1
        # Any position will do, as long as the broker need not be asked: reading begins with a seek.
        consumer.assign([TopicPartition(tp.topic, tp.partition, 0) for tp in assigned])
        if assigned:
            consumer.pause([TopicPartition(tp.topic, tp.partition) for tp in assigned])
        if not self._stopping.is_set():
            self._listener.on_assigned(
                Assigned(
                    self._assignment,
                    self._generation,
                    frozenset(tp.partition for tp in assigned),
                    consumer.consumer_group_metadata(),
                )
            )

    def _on_revoke(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        self._give_up(consumer)

    def _on_lost(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        logger.warning("the group has given this worker's partitions to others")
        self._give_up(consumer)

    def _give_up(self, consumer: Consumer) -> None:
        if not self._stopping.is_set():
            self._listener.on_revoked()
        self._new_generation()
        self._assignment += 1
        self._starts.clear()
        self._waiting.clear()
        self._next.clear()
        self._lag = {}
        self._handed.clear()
        consumer.unassign()


def _judge(error: KafkaError) -> None:
    """Go on after an error of the consumer, or end the process."""
    if error.fatal():
        raise Halt(f"Kafka refused this worker for good: {error}")
    if error.code() in (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    ):
        raise Halt(f"an input cannot be read: {error.str()}; see `objections topics check`")
    logger.warning("reading: %s", error.str())
