"""
Gets taken-over partitions ready: from the changelogs to the local stores.

Runs in a thread of its own, outside of the rebalance, as it may take longer than a rebalance may:
a restore within the callback gets the worker expelled, restores again, and never ends.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.core.policy import Policy
from streams.core.times import NEVER_MS
from streams.errors import Halt
from streams.kafka.denied import denied, is_denied
from streams.kafka.reader import fetch, reader
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Broken, Memory, Reached, Row, Store, remove
from streams.worker import aborted, takeover
from streams.worker.damage import Damage, assess
from streams.worker.names import (
    AUDIT_TRAIL,
    CHANGELOGS,
    CONTENT,
    CONTENT_CHANGELOG,
    ELIGIBILITY,
    LINK_TOPICS,
    USERS_CHANGELOG,
    WITHOUT_LINKS,
    Followed,
)
from streams.worker.naming import check_naming, check_outputs
from streams.worker.open_letters import OpenLetters, begin_index, index_rows
from streams.worker.rebuild import Ownership, Rebuild
from streams.worker.takeover import Cancelled, Takeover, begin_at
from streams.worker.unanswered import Key, Said

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

READ_TIMEOUT_S: Final = 0.2  # of one read: how late a cancellation may be noticed
PROGRESS_S: Final = 5.0


class Restored(NamedTuple):
    """
    A partition ready to be owned.

    ends: of its inputs when it was taken over.
    aborted: what transactions that did not count have left at the ends of its outputs.
    committed: the group's offsets, where it has them; *positions* are where to read from.
    """

    number: int
    store: Store
    reached: dict[str, Reached]
    positions: dict[str, int]
    committed: dict[str, int]
    ends: dict[str, int]
    letters: OpenLetters
    aborted: dict[Key, Said]


class Progress(NamedTuple):
    """What a restore has done: rows read, and how long it has taken."""

    rows: int
    seconds: float


class Changelogs(NamedTuple):
    """
    What identifies the changelogs: topic ids, and how long a deleted row is remembered.

    output_ids: the ids of the outputs of decisions, as one text.
    partitions_n: of every topic but `purge-acks`.
    with_trail: whether there is a topic for the audit trail.
    followed: what is read like inputs.
    """

    topic_ids: dict[str, str]
    delete_retention_ms: int
    output_ids: str
    partitions_n: int
    with_trail: bool
    followed: Followed = WITHOUT_LINKS


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
        policy: Policy,
        group_metadata: object,
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
        self._policy = policy
        self._cancelled = threading.Event()
        self._ownership = Ownership(group_metadata, self._cancelled)
        self._stores: dict[int, Store] = {}
        self._reached: dict[int, dict[str, Reached]] = {}
        self._over = threading.Event()
        self._aborted: Future[dict[int, dict[Key, Said]]] = Future()
        self._rows = 0

    def rows_read(self) -> int:
        """Return how many rows have been read so far; from any thread."""
        return self._rows

    def cancel(self) -> None:
        """Stop, close the stores that are not handed over yet, and wait until that is done."""
        self._cancelled.set()
        self._over.set()
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
                failure_to_close = _close(store)
                error = error or failure_to_close
        if not self._cancelled.is_set():
            self._on_end(Progress(self._rows, time.monotonic() - began), error)

    def _restore(self) -> None:
        consumer = reader(
            self._settings,
            fetch_wait_max_ms=50,
            queued_max_messages_kbytes=64 * 1024,
            fetch_queue_backoff_ms=2,
        )
        beside = ThreadPoolExecutor(1, "aborted")
        try:
            found = takeover.ask(
                self._settings,
                consumer,
                self._partitions,
                self._cancelled,
                self._changelogs.followed,
            )
            for number in self._partitions:
                self._open(number, found.log_ends[number])
            # Beside the changelogs: nobody is served meanwhile, and a slow Kafka takes its time.
            ends, over = found.log_ends, self._over
            self._aborted = beside.submit(aborted.find, self._settings, ends, over)
            damaged: dict[int, Damage] = {}

            def check(number: int) -> None:
                store, ids = self._stores[number], self._changelogs.output_ids
                damage = assess(self._settings, store, found, number, ids, self._cancelled)
                if damage:
                    damaged[number] = damage
                else:
                    self._hand_over(number, found)

            self._read(consumer, USERS_CHANGELOG, found, self._partitions, lambda _: None)
            self._check_naming(consumer, found)
            self._read(consumer, CONTENT_CHANGELOG, found, self._partitions, check)
            for number, damage in damaged.items():  # behind all others: it takes a while
                self._rebuild(consumer, number, damage, found)
        finally:
            self._over.set()
            beside.shutdown()
            consumer.close()

    def _check_naming(self, consumer: Consumer, found: Takeover) -> None:
        """Raise UsageProblem, before anything is served, where another key named users."""
        subjects, untold = self._settings.subjects(), {}
        for number, store in self._stores.items():
            if not check_naming(self._settings, subjects, number, store):
                untold[number] = found.log_ends[number][ELIGIBILITY]
        check_outputs(self._settings, subjects, consumer, untold, self._cancelled)

    def _rebuild(self, consumer: Consumer, number: int, damage: Damage, found: Takeover) -> None:
        """Let the changelogs be made good, read what was written to them, and hand over."""
        here, ends = [number], dict(found.log_ends[number])
        if self._changelogs.with_trail:
            trail = (AUDIT_TRAIL,)
            ends |= takeover.log_ends(self._settings, consumer, here, self._cancelled, trail)[
                number
            ]
        Rebuild(
            self._settings,
            self._ownership,
            self._policy,
            number,
            self._stores[number],
            found.committed[number],
            ends,
            self._changelogs.output_ids,
            self._changelogs.followed,
        ).run(consumer, damage)
        then = takeover.log_ends(self._settings, consumer, here, self._cancelled)
        found = found._replace(log_ends={**found.log_ends, **then})
        for changelog in CHANGELOGS:
            self._read(consumer, changelog, found, here, lambda _: None)
        self._hand_over(number, found)

    def _open(self, number: int, log_ends: dict[str, int]) -> None:
        """Open a partition's store; one that may have missed something is begun anew."""
        if self._cancelled.is_set():
            raise Cancelled
        path = self._settings.state_dir / self._settings.group / str(number)
        now_ms = int(time.time() * 1000)
        store: Store | None = None
        why: str | None = None
        try:
            store = Store(path, self._memory)
            reasons = (self._unfit(store, each, log_ends[each], now_ms) for each in CHANGELOGS)
            why = next((reason for reason in reasons if reason is not None), None)
        except Broken as error:
            why = str(error)
        if why is not None:
            logger.warning("%s: the local store is thrown away: %s", path, why)
            if store is not None:
                _close(store)  # whatever it says of what is thrown away
            remove(path)
            store = Store(path, self._memory)
        assert store is not None
        if not store.last_used_ms():
            store.mark_used(now_ms)  # a new one: from now on it may miss the end of a row
            begin_index(store)
        self._stores[number] = store
        self._reached[number] = {
            topic: store.reached(topic) or Reached(self._changelogs.topic_ids[topic], 0)
            for topic in CHANGELOGS
        }

    def _unfit(self, store: Store, topic: str, log_end: int, now_ms: int) -> str | None:
        """Return why *store* may lack something of changelog *topic*; None if it is fit."""
        idle_ms = now_ms - (store.last_used_ms() or now_ms)
        if idle_ms > self._changelogs.delete_retention_ms // 2:
            return f"it was idle for {idle_ms // 1000} s and may have missed rows' ends in {topic}"
        reached = store.reached(topic)
        if reached is None:
            return None
        if reached.topic_id != self._changelogs.topic_ids[topic]:
            return f"it was made from another topic called {topic}"
        if reached.offset > log_end:
            return f"it has got to {reached.offset} of {topic}, which ends at {log_end}"
        return None

    def _read(
        self,
        consumer: Consumer,
        changelog: str,
        found: Takeover,
        partitions: list[int],
        on_done: Callable[[int], None],
    ) -> None:
        """Read *changelog* to its end in *partitions*; tell of each as it is done."""
        name = self._settings.topic(changelog)
        left: dict[int, int] = {}
        begin: list[TopicPartition] = []
        for number in partitions:
            offset = self._reached[number][changelog].offset
            end = found.log_ends[number][changelog]
            if offset < end:
                left[number] = end
                begin.append(TopicPartition(name, number, offset))
            else:
                on_done(number)
        if left:
            takeover.know(consumer, name)
            consumer.assign(begin)
        logged_s = time.monotonic()
        while left:
            if self._cancelled.is_set():
                raise Cancelled
            for number in self._apply(fetch(consumer, READ_TIMEOUT_S), name, left):
                on_done(number)
            if time.monotonic() - logged_s > PROGRESS_S:
                logged_s = time.monotonic()
                waits = sorted(left)
                logger.info("restoring: %d rows; %s waits for %s", self._rows, name, waits)
        consumer.unassign()

    def _apply(self, messages: "list[Message]", name: str, left: dict[int, int]) -> list[int]:
        """Bring rows into the stores; return the partitions that are done, removed from *left*."""
        batches: dict[int, list[Row]] = {}
        at: dict[int, int] = {}
        for message in messages:
            number, offset = message.partition(), message.offset()
            if _is_failure(self._settings, message) or message.topic() != name or offset is None:
                continue
            if number is None or number not in left:
                continue
            at[number] = offset
            if message.error() is None:
                at[number] = offset + 1
                batches.setdefault(number, []).extend(_read_rows(message))
                self._rows += 1
        done = [number for number, offset in at.items() if offset >= left[number]]
        for number, offset in at.items():
            self._write(number, name, offset, batches.get(number, []))
        for number in done:
            del left[number]
        return done

    def _write(self, number: int, name: str, offset: int, batch: list[Row]) -> None:
        """Write rows of a changelog, and how far they reach: an interrupted restore goes on."""
        changelog = name.removeprefix(self._settings.topic_prefix)
        reached = self._reached[number][changelog]._replace(offset=offset)
        self._reached[number][changelog] = reached
        self._stores[number].write(batch, {changelog: reached})

    def _hand_over(self, number: int, found: Takeover) -> None:
        store = self._stores[number]
        store.mark_used(int(time.time() * 1000))
        committed, ends = found.committed[number], found.input_ends[number]
        self._check_links_followed(store)
        positions = {
            topic: begin_at(
                f"{self._settings.topic(topic)}/{number}",
                committed.get(topic),
                ends[topic],
                store,
                topic,
            )
            for topic in self._changelogs.followed.all
        }
        letters = OpenLetters(store, f"{self._settings.topic(CONTENT)}/{number}/")
        left = self._aborted.result()[number]
        del self._stores[number]  # from here on whoever gets it closes it
        self._on_ready(
            Restored(
                number,
                store,
                self._reached[number],
                positions,
                committed,
                ends,
                letters,
                left,
            )
        )

    def _check_links_followed(self, store: Store) -> None:
        """Raise Halt where links were followed, and now there is no topic to follow them by."""
        position = rows.position_key(LINK_TOPICS[0])
        if not self._changelogs.followed.links and store.get(position) is not None:
            here = " and ".join(map(self._settings.topic, LINK_TOPICS))
            raise Halt(
                f"{store.path}: the state has followed {here}, which did not exist when this "
                "worker started: objections would no longer cover linked accounts. Remedy: find "
                "out who removed them, restore them from a backup, and start the worker again"
            )


def _close(store: Store) -> BaseException | None:
    """Close a store that is not handed over; return why that cannot be: it may be damaged."""
    try:
        store.close()
    except Exception as failure:  # noqa: BLE001  (rocksdict raises bare ones)
        return failure
    return None


def _is_failure(settings: Settings, message: "Message") -> bool:
    """Whether *message* is neither a row nor the end of a partition; Halt if it stays so."""
    error = message.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return False
    if is_denied(error):
        raise Halt(denied(settings, error, f"reading {message.topic()}"))
    if error.fatal():
        raise Halt(f"restore: {error.str()}")
    logger.info("restore: %s", error.str())
    return True


def _read_rows(message: "Message") -> list[Row]:
    """Return the rows of the store that a changelog's record makes; say where a newer one lies."""
    try:
        return _store_rows(message.key(), message.value())
    except rows.NewerRow as error:
        place = f"{message.topic()}/{message.partition()}/{message.offset()}"
        raise Halt(f"{place}: {error}") from error


def _store_rows(key: bytes | None, value: bytes | None) -> list[Row]:
    """Return the rows of the store that a row of a changelog makes."""
    if key is None:
        return []
    if value is not None:
        rows.check(key, value)
    if key[:1] == rows.RECEIPT:
        return _receipt_rows(key, value)
    if key[:1] != rows.USER or value is None:
        return [(key, value)]
    due_ms = rows.next_change_ms(value)
    found: list[Row] = [(key, value), *index_rows(key, value)]
    if due_ms != NEVER_MS:
        found.append((rows.timer_key(due_ms, rows.user_of(key)), b""))
    return found


def _receipt_rows(key: bytes, value: bytes | None) -> list[Row]:
    """Return a receipt's row, and the one that finds it; one of an earlier number finds nothing."""
    index = None if value is None else rows.receipt_index(key, rows.decode_receipt(value))
    found: list[Row] = [(key, value), (rows.RECEIPT_OPEN + key, None)]
    return found if index is None else [*found, index]
