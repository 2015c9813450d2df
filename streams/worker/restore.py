"""
Gets taken-over partitions ready: from the changelogs to local stores and positions.

Runs in a thread of its own, outside of the rebalance, as it may take longer than a rebalance may.
Order matters: first the group's committed offsets (the broker holds the answer back while a
transaction with offsets is pending), only then the changelogs to their end.  The other way
round a frozen worker's transaction could commit in between: its offsets would count, its rows
would be missed, and an objection would be lost.  The end is the log's, not the last stable
offset: behind an open transaction there may be committed rows.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined] # it is public

from streams.core.times import NEVER_MS
from streams.errors import Halt
from streams.kafka import admin
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Memory, Reached, Row, Store
from streams.worker.names import CHANGELOGS, CONTENT_CHANGELOG, INPUTS, USER_TOPICS, USERS_CHANGELOG

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

READ_RECORDS: Final = 10_000
READ_TIMEOUT_S: Final = 0.2  # of one read: how late a cancellation may be noticed
ASK_TIMEOUT_S: Final = 5.0
PROGRESS_S: Final = 5.0


class Cancelled(Exception):
    """The partitions were lost while they were being restored."""


class Restored(NamedTuple):
    """A partition ready to be owned; ends: of its user topics when it was taken over."""

    number: int
    store: Store
    reached: dict[str, Reached]
    positions: dict[str, int]
    ends: dict[str, int]


class Progress(NamedTuple):
    """What a restore has done: rows read, and how long it has taken."""

    rows: int
    seconds: float


class Changelogs(NamedTuple):
    """What identifies the changelogs: topic ids, and how long a deleted row is remembered."""

    topic_ids: dict[str, str]
    delete_retention_ms: int


class Restore(threading.Thread):
    """
    Restores *partitions*, user rows of all before any item rows.

    on_ready: called in this thread with each partition as it gets ready.
    on_end: called last, with what was done, and the error if there was one.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: Iterable[int],
        memory: Memory,
        changelogs: Changelogs,
        on_ready: Callable[[Restored], None],
        on_end: Callable[[Progress, BaseException | None], None],
    ) -> None:
        super().__init__(name="restore", daemon=True)
        self._settings = settings
        self._partitions = sorted(partitions)
        self._memory = memory
        self._changelogs = changelogs
        self._on_ready = on_ready
        self._on_end = on_end
        self._cancelled = threading.Event()
        self._stores: dict[int, Store] = {}
        self._reached: dict[int, dict[str, Reached]] = {}
        self._rows = 0

    def cancel(self) -> None:
        """Stop, close the stores that are not handed over yet, and wait until that is done."""
        self._cancelled.set()
        self.join()

    def run(self) -> None:
        """Restore all partitions."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            self._restore()
        except Cancelled:
            pass
        except BaseException as failure:  # noqa: BLE001  (handed to the event loop)
            error = failure
        finally:
            for store in self._stores.values():
                store.close()
        if not self._cancelled.is_set():
            self._on_end(Progress(self._rows, time.monotonic() - began), error)

    def _restore(self) -> None:
        consumer = Consumer(self._config(), logger=logger)
        try:
            committed = self._committed(consumer)
            log_ends = self._log_ends()
            input_ends = self._input_ends(consumer)
            for number in self._partitions:
                self._open(number, log_ends)
            self._read(consumer, USERS_CHANGELOG, log_ends, lambda _: None)
            self._read(
                consumer,
                CONTENT_CHANGELOG,
                log_ends,
                lambda number: self._hand_over(number, committed[number], input_ends[number]),
            )
        finally:
            consumer.close()

    def _config(self) -> dict[str, Any]:
        return self._settings.kafka(
            **{
                "group.id": self._settings.group,  # for its offsets; it is never joined
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 64 * 1024,
                "fetch.queue.backoff.ms": 2,
            }
        )

    def _committed(self, consumer: Consumer) -> dict[int, dict[str, int]]:
        """Return the group's offsets, once no transaction that would change them is pending."""
        wanted = [
            TopicPartition(self._settings.topic(topic), number)
            for number in self._partitions
            for topic in INPUTS
        ]
        found = self._insist(
            "the group's offsets", lambda: consumer.committed(wanted, ASK_TIMEOUT_S)
        )
        names = {self._settings.topic(topic): topic for topic in INPUTS}
        committed: dict[int, dict[str, int]] = {number: {} for number in self._partitions}
        for tp in found:
            if tp.error is not None:
                raise Halt(f"{tp.topic}/{tp.partition}: no committed offset to be had: {tp.error}")
            if tp.offset >= 0:
                committed[tp.partition][names[tp.topic]] = tp.offset
        return committed

    def _log_ends(self) -> dict[tuple[str, int], int]:
        """Return the ends of the changelogs, open transactions included."""
        client = admin.connect(self._settings)
        wanted = {
            TopicPartition(self._settings.topic(topic), number): OffsetSpec.latest()
            for number in self._partitions
            for topic in CHANGELOGS
        }

        def ask() -> dict[tuple[str, int], int]:
            futures = client.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=ASK_TIMEOUT_S,
            )
            return {
                (tp.topic, tp.partition): future.result().offset for tp, future in futures.items()
            }

        return self._insist("the changelogs' ends", ask)

    def _input_ends(self, consumer: Consumer) -> dict[int, dict[str, int]]:
        def end(topic: str, number: int) -> int:
            place = TopicPartition(self._settings.topic(topic), number)
            found = consumer.get_watermark_offsets(place, ASK_TIMEOUT_S)
            if found is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return int(found[1])

        return {
            number: {
                topic: self._insist("an input's end", lambda t=topic, n=number: end(t, n))  # type: ignore[misc]
                for topic in USER_TOPICS
            }
            for number in self._partitions
        }

    def _insist(self, what: str, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer, or the partitions are lost."""
        while not self._cancelled.is_set():
            try:
                return ask()
            except KafkaException as error:
                found: KafkaError = error.args[0]
                if found.fatal():
                    raise Halt(f"{what}: {found.str()}") from error
                logger.info("restore waits for %s: %s", what, found.str())
                self._cancelled.wait(0.05)
        raise Cancelled

    def _open(self, number: int, log_ends: dict[tuple[str, int], int]) -> None:
        """Open a partition's store; one that may have missed something is begun anew."""
        if self._cancelled.is_set():
            raise Cancelled
        path = self._settings.state_dir / self._settings.group / str(number)
        store = Store(path, self._memory)
        now_ms = int(time.time() * 1000)
        for topic in CHANGELOGS:
            why = self._unfit(store, topic, log_ends[self._settings.topic(topic), number], now_ms)
            if why is not None:
                logger.warning("%s: the local store is thrown away: %s", path, why)
                store.destroy()
                store = Store(path, self._memory)
                break
        store.mark_used(now_ms)
        self._stores[number] = store
        self._reached[number] = {
            topic: store.reached(topic) or Reached(self._changelogs.topic_ids[topic], 0)
            for topic in CHANGELOGS
        }

    def _unfit(self, store: Store, topic: str, log_end: int, now_ms: int) -> str | None:
        reached = store.reached(topic)
        if reached is None:
            return None if store.last_used_ms() == 0 else f"it never got anything of {topic}"
        if reached.topic_id != self._changelogs.topic_ids[topic]:
            return f"it was made from another topic called {topic}"
        if reached.offset > log_end:
            return f"it has got to {reached.offset} of {topic}, which ends at {log_end}"
        idle_ms = now_ms - store.last_used_ms()
        if idle_ms > self._changelogs.delete_retention_ms // 2:
            return f"it was idle for {idle_ms // 1000} s and may have missed rows' ends in {topic}"
        return None

    def _read(
        self,
        consumer: Consumer,
        changelog: str,
        log_ends: dict[tuple[str, int], int],
        on_done: Callable[[int], None],
    ) -> None:
        """Read *changelog* to its end in all partitions; tell of each as it is done."""
        name = self._settings.topic(changelog)
        left: dict[int, int] = {}
        for number in self._partitions:
            reached, end = self._reached[number][changelog], log_ends[name, number]
            self._reached[number][changelog] = Reached(reached.topic_id, end)
            if reached.offset < end:
                left[number] = end
            else:
                self._write(number, [])
                on_done(number)
        if not left:
            return
        consumer.assign(
            [
                TopicPartition(
                    name, number, (self._stores[number].reached(changelog) or _NEW).offset
                )
                for number in left
            ]
        )
        logged = time.monotonic()
        while left:
            if self._cancelled.is_set():
                raise Cancelled
            first = consumer.poll(READ_TIMEOUT_S)  # unlike consume, it returns with the first
            if first is None:
                continue
            done = self._apply([first, *consumer.consume(READ_RECORDS, 0)], left)
            for number in done:
                on_done(number)
            if time.monotonic() - logged > PROGRESS_S:
                logged = time.monotonic()
                logger.info(
                    "restoring %s: %d rows, %d partitions left", name, self._rows, len(left)
                )
        consumer.unassign()

    def _apply(self, messages: "list[Message]", left: dict[int, int]) -> list[int]:
        """Bring rows into the stores; return the partitions that are done, removed from *left*."""
        batches: dict[int, list[Row]] = {}
        done: list[int] = []
        for message in messages:
            number, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                if error.fatal():
                    raise Halt(f"restore: {error.str()}")
                logger.info("restore: %s", error.str())
                continue
            if number is None or offset is None or number not in left:
                continue
            key = message.key()
            if error is None and key is not None:
                batches.setdefault(number, []).extend(_store_rows(key, message.value()))
                self._rows += 1
            at = offset if error is not None else offset + 1
            if at >= left[number]:
                del left[number]
                done.append(number)
        for number, batch in batches.items():
            if number in done:
                self._write(number, batch)
            else:
                self._stores[number].write(batch, {})
        for number in done:
            if number not in batches:
                self._write(number, [])
        return done

    def _write(self, number: int, batch: list[Row]) -> None:
        """Write the last of a changelog, and that its end is reached."""
        self._stores[number].write(batch, self._reached[number])

    def _hand_over(
        self, number: int, committed: dict[str, int], input_ends: dict[str, int]
    ) -> None:
        store = self._stores.pop(number)
        positions = {
            topic: _position(
                f"{self._settings.topic(topic)}/{number}", committed.get(topic), store, topic
            )
            for topic in INPUTS
        }
        self._on_ready(Restored(number, store, self._reached[number], positions, input_ends))


_NEW: Final = Reached("", 0)


def _position(place: str, committed: int | None, store: Store, topic: str) -> int:
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
        return folded
    if committed != folded:
        logger.warning(
            "%s: the group's offset is %d, the state's %d: read from the lower",
            place,
            committed,
            folded,
        )
    return min(committed, folded)


def _store_rows(key: bytes, value: bytes | None) -> list[Row]:
    """Return the rows of the store that a row of a changelog makes."""
    if key[:1] != rows.USER or value is None:
        return [(key, value)]
    due_ms = rows.next_change_ms(value)
    if due_ms == NEVER_MS:
        return [(key, value)]
    return [(key, value), (rows.timer_key(due_ms, rows.user_of(key)), b"")]
