"""
Follows the outputs into a store: ordered batches, offsets behind the data, acknowledgements.

One loop: fetch, apply, then say so.  Kafka's callbacks only note what is to be done, and the loop
does it.  The store's own positions say where to go on; the group's offsets share the partitions
out, and show when a store went back.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import Halt, Unreachable
from streams.kafka.client_log import CLIENT_LOGGER
from streams.kafka.reader import fetch
from streams.settings import Settings
from streams.sinks.sink import (
    TRAINING_CONTENT,
    TRAINING_USERS,
    Batch,
    Change,
    Place,
    Position,
    Sink,
)
from streams.subscriber import cluster
from streams.subscriber.acks import ACKS, AckReader, AckWriter
from streams.subscriber.calling import Calls, Reopened, Stopped
from streams.subscriber.erasing import Eraser
from streams.subscriber.following import POSITIONS_EVERY_MS, Followed, due, next_batch, share_done
from streams.subscriber.hearing import Deaf, Hearing
from streams.subscriber.places import settled
from streams.subscriber.records import change_of
from streams.subscriber.spans import StoreSpans
from streams.subscriber.takeover import Takeover
from streams.tracing import Spans

logger = logging.getLogger(__name__)

TOPICS: Final = (TRAINING_USERS, TRAINING_CONTENT)
BATCH_RECORDS: Final = 5_000
QUEUED_KBYTES: Final = 32 * 1024  # of all partitions together: the bound of memory
POLL_S: Final = 0.1
FETCH_WAIT_MS: Final = 100  # how late the log's end is noticed behind control records
COMMIT_EVERY_S: Final = 1.0
# Longer than a store may take over one batch or one erasure; the group waits for us so long.
POLL_INTERVAL_MS: Final = 900_000
assert FETCH_WAIT_MS <= POSITIONS_EVERY_MS


class Progress(NamedTuple):
    """
    How far a subscriber is.

    done, total: offsets between where its places were at the start and the logs' ends of then.
    applied: changes handed to the store so far.
    """

    places: int
    done: int
    total: int
    applied: int
    ready: bool


class Subscriber:
    """
    Follows the outputs into *sink*, as *store* (its name in OBJECTIONS_STORES).

        Subscriber(sink, store="feature-store").run()

    settings: of the process; read from OBJECTIONS_ variables by default.
    topics: what to follow, as the contract names it.
    group: the consumer group; several processes of one group share the partitions.
    eraser: another sink on the same store that erases in a thread of its own, so that a long
        erasure delays no purge; for stores that can write and erase at once.
    applied: called with each batch once the store has it.
    progress: called about once a second.
    spans: where spans of traced outputs go; None makes none.
    """

    def __init__(
        self,
        sink: Sink,
        store: str,
        *,
        settings: Settings | None = None,
        topics: Iterable[str] = TOPICS,
        group: str | None = None,
        eraser: Sink | None = None,
        applied: Callable[[Batch], None] | None = None,
        progress: Callable[[Progress], None] | None = None,
        batch_records: int = BATCH_RECORDS,
        spans: Spans | None = None,
    ) -> None:
        self._sink = sink
        self._store = store
        self._settings = settings or Settings.read(os.environ)
        self._names = {self._settings.topic(name): name for name in topics}
        self._group = group or f"{self._settings.topic_prefix}objections-store-{store}"
        self._batch_records = batch_records
        self._on_applied = applied
        self._on_progress = progress
        self._spans = None
        if spans is not None:
            self._spans = StoreSpans(self._settings, spans, store, self._group)
        self._stopping = threading.Event()
        self._calls = Calls(sink, self._stopping)
        self._eraser = Eraser(sink, eraser)
        self._followed: dict[Place, Followed] = {}
        self._wanted: list[Place] | None = None  # assigned, not yet taken over
        self._assignments = 0
        self._applied = 0
        self._commit_due_s = 0.0

    @property
    def ready(self) -> bool:
        """Whether all its places have got to the ends they had when they were taken over."""
        taken = self._assignments > 0 and self._wanted is None
        return taken and all(each.ready for each in list(self._followed.values()))

    @property
    def places(self) -> frozenset[Place]:
        """The places it follows just now."""
        return frozenset(self._followed)

    def progress(self) -> Progress:
        """Return how far it is."""
        followed = list(self._followed.values())
        return Progress(len(followed), *share_done(followed), self._applied, self.ready)

    def stop(self) -> None:
        """Ask it to end; what is applied is acknowledged before."""
        self._stopping.set()

    def run(self, *, once: bool = False) -> None:
        """
        Follow until stopped; *once* ends when ready, with all of it erased and acknowledged.

        Raises Unreachable when Kafka or the store is away for long, UsageProblem where topics are
        missing, Halt for what people must see.
        """
        try:
            self._calls.open()
            topics = cluster.topics_of(self._settings, self._names.values())
            ended = False
            while not ended:
                with self._connected(topics):
                    ended = self._follow_while_heard(once=once)
        except Stopped:
            logger.info("stopped while waiting for the store")
        except KafkaException as error:
            raise Halt(f"Kafka at {self._settings.bootstrap}: {error.args[0].str()}") from error
        finally:
            self._eraser.close()
            self._sink.close()

    @contextmanager
    def _connected(self, topics: Mapping[str, cluster.Topic]) -> Iterator[None]:
        """Have clients, which are let go of at the end."""
        reader = AckReader(self._settings, self._store)
        self._writer = AckWriter(self._settings, self._store)
        self._takeover = Takeover(
            self._settings, self._sink, self._calls, reader, self._writer, topics
        )
        self._consumer = self._subscribe()
        self._hearing = Hearing(self._consumer, (self._settings.topic(ACKS), 0))
        try:
            yield
        finally:
            self._consumer.close()
            self._writer.close()
            reader.close()

    def _follow_while_heard(self, *, once: bool) -> bool:
        """Follow; return whether that has ended, or (False) new clients are to go on."""
        try:
            self._follow(once=once)
        except Deaf as deaf:
            if self._stopping.is_set():
                message = f"Kafka at {self._settings.bootstrap} does not answer: {deaf}"
                raise Unreachable(message) from deaf
            logger.warning("Kafka has not answered for long (%s): new clients", deaf)
            self._forget()
            return False
        return True

    def _follow(self, *, once: bool) -> None:
        while not self._stopping.is_set() and not (once and self._is_done()):
            try:
                self._step(at_once=once)
            except Reopened:
                # The store may be another than it was: its positions are looked at again.
                self._wanted = list(self._followed) if self._wanted is None else self._wanted
            if time.monotonic() > self._commit_due_s:
                self._commit(asynchronous=True)
                if self._on_progress is not None:
                    self._on_progress(self.progress())
        if self._on_progress is not None:
            self._on_progress(self.progress())
        self._leave(list(self._followed))

    def _step(self, *, at_once: bool) -> None:
        if self._wanted is not None:
            self._take_over(self._wanted)
        assignments = self._assignments
        messages = self._fetch()
        self._hearing.fetched(messages)
        if assignments != self._assignments or self._wanted is not None:
            return  # Fetched partly before: all of it comes again from where we begin.
        self._apply(messages)
        self._end_resyncs()
        self._eraser.turn(self._followed, at_once=at_once and self.ready)
        now_ms = _now_ms()
        self._look_after(now_ms)
        self._acknowledge(now_ms)

    # Places.

    def _subscribe(self) -> Consumer:
        consumer = Consumer(
            self._settings.kafka(
                group_id=self._group,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="error",
                enable_partition_eof=True,
                # Equal numbers of the topics stay together: an account, and its items.
                partition_assignment_strategy="range",
                session_timeout_ms=self._settings.session_timeout_ms,
                max_poll_interval_ms=POLL_INTERVAL_MS,
                fetch_wait_max_ms=FETCH_WAIT_MS,
                queued_max_messages_kbytes=QUEUED_KBYTES,
            ),
            logger=CLIENT_LOGGER,
        )
        consumer.subscribe(
            list(self._names),
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        return consumer

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignments += 1
        self._wanted = [Place(self._names[each.topic], each.partition) for each in partitions]
        consumer.assign([])  # nothing is fetched before the loop knows from where

    def _revoked(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        # No batch is under way: Kafka calls only while the loop fetches.
        self._leave(list(self._followed))
        consumer.unassign()

    def _lost(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        self._forget()
        consumer.unassign()

    def _forget(self) -> None:
        self._assignments += 1
        self._wanted = None
        self._followed = {}
        if self._spans is not None:
            self._spans.forget()

    def _take_over(self, places: list[Place]) -> None:
        followed = self._takeover.take(self._consumer, places)
        self._consumer.assign(
            [self._partition(place, each.position) for place, each in followed.items()]
        )
        self._followed = followed
        self._wanted = None

    def _leave(self, places: list[Place]) -> None:
        """Say and commit how far *places* have got, and give them up."""
        if places:
            self._acknowledge(_now_ms(), every_ms=0)
            self._commit(asynchronous=False)
            self._writer.flush()
        self._forget()

    def _partition(self, place: Place, position: Position) -> TopicPartition:
        return TopicPartition(self._settings.topic(place.topic), place.partition, position.offset)

    # Records.

    def _fetch(self) -> list[Message]:
        return fetch(self._consumer, POLL_S, self._batch_records)

    def _apply(self, messages: list[Message]) -> None:
        if self._spans is not None:
            self._spans.read(messages, self._followed)
        changes = self._read(messages, _now_ms())
        changed = {Place(change.topic, change.partition) for change in changes}
        reached = next_batch(self._followed, changed, _now_ms())
        if not reached:
            return
        batch = Batch(changes, reached)
        self._calls.call(lambda: self._sink.apply(batch))
        self._stored(batch)
        if self._spans is not None:
            self._spans.applied(batch)
        self._applied += len(changes)
        if self._on_applied is not None:
            self._on_applied(batch)

    def _read(self, messages: list[Message], now_ms: int) -> list[Change]:
        """Return the changes among *messages*, and note how far each place is read."""
        changes = []
        for message in messages:
            topic, number, offset = message.topic(), message.partition(), message.offset()
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise Halt(f"reading {topic}/{number}: {error.str()}")
            assert topic is not None
            assert number is not None
            assert offset is not None
            place = Place(self._names[topic], number)
            each = self._followed.get(place)
            if each is None:
                continue
            if error is not None:  # the end, also behind control records
                each.reached = max(each.reached, offset)
                each.current_ms = now_ms
            elif offset >= each.reached:
                changes.append(change_of(message, place))
                each.reached = offset + 1
                each.current_ms = max(each.current_ms, message.timestamp()[1])
        return changes

    def _stored(self, batch: Batch) -> None:
        now_ms = _now_ms()
        for place, position in batch.reached.items():
            each = self._followed[place]
            each.position, each.stored_ms = position, now_ms
        for change in batch.changes:
            if change.value is None:
                self._followed[Place(change.topic, change.partition)].unerased = True

    def _end_resyncs(self) -> None:
        """Remove what the log has no more, of places that are read to the end noted before."""
        for place, each in self._followed.items():
            if each.sweep_is_due:
                position = each.position
                self._calls.call(lambda p=place, g=position.generation: self._sink.sweep(p, g))  # type: ignore[misc]
                each.unerased = True
                batch = Batch([], {place: settled(position)})
                self._calls.call(lambda b=batch: self._sink.apply(b))  # type: ignore[misc]
                self._stored(batch)

    # Words.

    def _look_after(self, now_ms: int) -> None:
        """See that no place falls so far behind that tombstones are gone before they are read."""
        for place, each in list(self._followed.items()):
            if now_ms - each.current_ms < self._takeover.heartbeat_ms:
                continue
            log = cluster.logs_of(self._consumer, self._settings, [place])[place]
            if log.end <= each.reached:
                each.current_ms = now_ms
            elif now_ms - each.current_ms > self._takeover.away_max_ms:
                anew = self._takeover.resync(self._consumer, place, each)
                self._followed[place] = anew
                self._consumer.seek(self._partition(place, anew.position))

    def _acknowledge(self, now_ms: int, **options: int) -> None:
        at_once = self._eraser.every_s == 0
        heartbeat_ms = self._takeover.heartbeat_ms
        for said in due(self._followed, now_ms, heartbeat_ms, erases_at_once=at_once, **options):
            self._writer.write(*said)
            if self._spans is not None:
                self._spans.acknowledged(*said)
        self._writer.check()

    def _commit(self, *, asynchronous: bool) -> None:
        self._commit_due_s = time.monotonic() + COMMIT_EVERY_S
        offsets = [
            cluster.offset_to_commit(self._settings, place, each.position)
            for place, each in self._followed.items()
        ]
        if not offsets:
            return
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # The store's own positions decide; these are committed again.
            logger.info("offsets not committed: %s", error.args[0].str())

    def _is_done(self) -> bool:
        """Whether all is applied, erased and said."""
        erases = self._eraser.every_s > 0
        return self.ready and not any(
            (erases and (each.unerased or each.erasing))
            or any(
                each.acked.get(p, (-1, 0))[0] < each.position.offset for p in ("hidden", "erased")
            )
            for each in self._followed.values()
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
