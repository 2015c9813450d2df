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
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.errors import Halt
from streams.kafka.denied import denied, is_denied
from streams.settings import Settings
from streams.worker.consumers import consumer_of_content, consumer_of_users
from streams.worker.ends import Ends
from streams.worker.names import CONTENT, Followed
from streams.worker.partition_counts import check_assignment
from streams.worker.reading import NotYet, Reading
from streams.worker.rounds import Assigned, Listener, Look, Place, Round, Start

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

POLL_S: Final = 0.1
# Of a round at most: an objection waits for the round in hand.  15 % more content a second than
# with 600 (35,600 to 30,900 items/s, medians of four, `tests/bench/overtake.py`).
CONTENT_RECORDS: Final = 900
LOOK_S: Final = 0.002  # between looks for content, or for room, while objections are waited for
# Without content for so long, looks come seldom: 2.6 % of a core when idle, instead of 5.0.
QUIET_S: Final = 1.0
QUIET_LOOK_S: Final = 0.01
# Under load one round commits, one is folded, and one is decoded, so that neither thread waits for
# the other: a fifth more content a second than with two.  Otherwise folding takes no time, and a
# round taken early would only wait for the last one, and let those behind it wait for two.
UNFINISHED_ROUNDS_MAX: Final = 3
LARGE_ROUND_RECORDS: Final = 300
# Then objections, ages and notices go on while content waits for room: they join what is folded
# next, or waits to be committed.
EXPRESS_ROUNDS_MAX: Final = 8
EXPRESS_RECORDS: Final = 300  # of a round
AGAIN_S: Final = 0.005  # between looks whether something can be done that has to wait
LAG_EVERY_S: Final = 0.25
PAUSE_AFTER_S: Final = 1.0  # of waiting for room: then poll goes on with nothing being read


class Turn(Enum):
    """What is to be fetched next."""

    ALL = auto()
    USERS = auto()  # there is no room for content
    NOTHING = auto()


class Fetch(threading.Thread):
    """
    The consumer's thread.  All methods but `run` may be called from other threads.

    client_id: what Kafka and its tools call this member of the group.
    """

    def __init__(
        self,
        settings: Settings,
        listener: Listener,
        partitions_n: int,
        client_id: str,
        followed: Followed,
    ) -> None:
        super().__init__(name="fetch", daemon=True)
        self._assignment = 0
        self._generation = 0
        self._settings = settings
        self._partitions_n = partitions_n
        self._followed = followed
        self._listener = listener
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._unfinished = 0  # rounds handed over and not done with; express ones apart
        self._express = 0
        self._rounds_max = 1
        self._content_records = min(settings.batch_records, CONTENT_RECORDS)
        self._stopping = threading.Event()
        self._lag: dict[Place, int] = {}
        self._unread_since_s: dict[Place, float] = {}
        self._lag_measured_s = 0.0
        self._stash: list[Message] = []
        self._content_s = 0.0  # when content was found last
        self._consumer = consumer_of_users(settings, client_id)
        self._content = consumer_of_content(settings, client_id)  # in no group
        self._ends = Ends(settings, self._pass_looks, listener.on_failed, followed)
        self._reading = Reading(
            settings,
            self._consumer,
            self._content,
            listener,
            self._ends.ask,
            self._judge,
            followed,
        )

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

    def finished(self, generation: int, *, express: bool) -> None:
        """Note that a round is done with: there is room for another."""
        with self._room:
            if generation == self._generation:
                if express:
                    self._express -= 1
                else:
                    self._unfinished -= 1
                self._room.notify_all()

    def has_unfinished(self) -> bool:
        """Whether a round has been handed over and is not done with."""
        return self._unfinished + self._express > 0

    def _wake(self) -> None:
        with self._room:
            self._room.notify_all()

    def lag(self) -> dict[Place, int]:
        """Return the records between the end of each input and what has been read, as of lately."""
        return self._lag

    def unread_since_s(self) -> dict[Place, float]:
        """Return since when what is not read can have been there, by time.time(), as of lately."""
        return self._unread_since_s

    def _pass_looks(self, looks: dict[int, Look]) -> None:
        self._commands.put(lambda: self._looked(looks))

    def run(self) -> None:
        """Poll until stopped."""
        self._ends.start()
        try:
            self._consumer.subscribe(
                [self._settings.topic(name) for name in self._followed.all],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._stopping.is_set():
                self._run_commands()
                turn = self._next_turn()
                if turn is Turn.USERS:
                    self._take(self._more(LOOK_S, EXPRESS_RECORDS), express=True)
                elif turn is Turn.ALL:
                    soon = self._reading.holding or not self._commands.empty()
                    self._take(self._all(AGAIN_S if soon else POLL_S), express=False)
                if time.monotonic() - self._lag_measured_s > LAG_EVERY_S:
                    self._measure_lag()
        except BaseException as error:  # noqa: BLE001  (handed to the event loop)
            if not self._stopping.is_set():
                self._listener.on_failed(error)
        finally:
            self._stopping.set()
            self._ends.stop()
            self._consumer.close()
            self._content.close()
            self._ends.join()  # a client in use while Python ends may crash the process

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
        self._lag = self._reading.lag(time.time())
        self._unread_since_s = self._reading.unread_since_s()
        self._lag_measured_s = time.monotonic()

    def _next_turn(self) -> Turn:
        """Wait a little for room for another round; keep polling when it takes long."""
        deadline_s = time.monotonic() + PAUSE_AFTER_S
        with self._room:
            while self._unfinished >= self._rounds_max:
                if self._stopping.is_set() or not self._commands.empty():
                    self._room.wait(AGAIN_S)
                    return Turn.NOTHING
                if self._rounds_max > 1 and self._express < EXPRESS_ROUNDS_MAX:
                    return Turn.USERS
                if time.monotonic() > deadline_s:
                    break
                self._room.wait(POLL_S)
            else:
                return Turn.ALL
        self._poll_only()
        return Turn.NOTHING

    def _poll_only(self) -> None:
        """Serve rebalances while the worker cannot take more: Kafka may be away."""
        read = {
            (self._settings.topic(topic), number): (topic, number)
            for topic, number in self._reading.places()
            if topic != CONTENT
        }
        paused = [TopicPartition(*place) for place in read]
        self._consumer.pause(paused)
        message = self._consumer.poll(POLL_S)
        if message is not None:
            self._stash.append(message)
        still = set(self._reading.places())
        self._consumer.resume([tp for tp in paused if read[tp.topic, tp.partition] in still])

    def _take(self, messages: "list[Message]", *, express: bool) -> None:
        if not messages:
            return
        batches = self._reading.sort(messages, self._more)
        if batches:
            records_n = sum(len(each.messages) for found in batches.values() for each in found)
            with self._room:
                if express:
                    self._express += 1
                else:
                    self._unfinished += 1
                    large = records_n >= LARGE_ROUND_RECORDS
                    self._rounds_max = UNFINISHED_ROUNDS_MAX if large else 1
            self._listener.on_round(Round(self._generation, batches, express))
        if self._reading.holding:
            self._catch_up()

    def _all(self, timeout_s: float) -> "list[Message]":
        """Return what there is of all inputs, having waited for it for *timeout_s*."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            left_s = max(deadline_s - time.monotonic(), 0)
            if not self._reading.reads_content:
                return self._more(left_s)
            quiet = time.monotonic() - self._content_s > QUIET_S
            found = self._more(min(left_s, QUIET_LOOK_S if quiet else LOOK_S))
            if content := self._content.consume(self._content_records, 0):
                self._content_s = time.monotonic()
                # What was written before it is here, or just arriving; it goes first.
                is_all = len(content) < self._content_records
                found += [*self._more(LOOK_S if is_all else 0), *content]
            if found or not left_s:
                return found

    def _more(self, timeout_s: float, records: int | None = None) -> "list[Message]":
        """Return what there is of the user topics, having waited for it for *timeout_s*."""
        found, self._stash = self._stash, []
        first = self._consumer.poll(0 if found else timeout_s)
        if first is not None:
            wanted = self._settings.batch_records if records is None else records
            found += [first, *self._consumer.consume(wanted, 0)]
        return found

    def _looked(self, looks: dict[int, Look]) -> None:
        self._reading.looked(looks)
        self._catch_up()

    def _catch_up(self) -> None:
        try:
            self._reading.catch_up()
        except NotYet:
            self._commands.put(self._reading.catch_up)

    def _start(self, start: Start, assignment: int) -> None:
        """Read the user topics; content follows when they are read to their end at take-over."""
        if assignment != self._assignment:
            return
        self._reading.start(start)
        self._ends.watch(self._reading.partitions())
        self._catch_up()

    def _rewind(self, positions: dict[int, dict[str, int]], assignment: int) -> None:
        """Read again from *positions*; partitions go through the same as when they started."""
        if assignment != self._assignment:
            return
        self._new_generation()
        for partition, offsets in positions.items():
            self._reading.restart(partition, offsets)
        self._listener.on_rewound(self._generation)
        self._catch_up()

    def _new_generation(self) -> None:
        with self._room:
            self._generation += 1
            self._unfinished = self._express = 0
            self._stash = []
            self._room.notify_all()

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        numbers = check_assignment(self._settings, assigned, self._partitions_n)
        self._new_generation()
        self._assignment += 1
        for reader, topics in (
            (consumer, self._followed.users),
            (self._content, (CONTENT,)),
        ):
            places = [(self._settings.topic(name), each) for name in topics for each in numbers]
            # Any position will do, if the broker need not be asked: reading begins with a seek.
            reader.assign([TopicPartition(*place, 0) for place in places])
            if places:
                reader.pause([TopicPartition(*place) for place in places])
        if not self._stopping.is_set():
            self._listener.on_assigned(
                Assigned(
                    self._assignment,
                    self._generation,
                    numbers,
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
        self._reading.clear()
        self._ends.watch(())
        self._lag = {}
        self._unread_since_s = {}
        consumer.unassign()
        self._content.unassign()

    def _judge(self, error: KafkaError, topic: str | None) -> None:
        """Go on after an error of the consumer, or end the process."""
        if error.fatal():
            raise Halt(f"Kafka refused this worker for good: {error}")
        if is_denied(error):
            of_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            what = f"being in group {self._settings.group}" if of_group else f"reading {topic}"
            raise Halt(denied(self._settings, error, what))
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Halt(f"an input cannot be read: {error.str()}; see `objections topics check`")
        logger.warning("reading: %s", error.str())
