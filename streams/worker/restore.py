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
from typing import Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from streams.core.policy import Policy
from streams.errors import Halt
from streams.kafka.reader import Place, fetch, reader
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Memory, Reached, Store
from streams.worker import aborted, takeover
from streams.worker.copies import Changelogs, Copies
from streams.worker.damage import Damage, assess
from streams.worker.names import (
    AUDIT_TRAIL,
    CHANGELOGS,
    CONTENT,
    CONTENT_CHANGELOG,
    ELIGIBILITY,
    LINK_TOPICS,
    USERS_CHANGELOG,
)
from streams.worker.naming import check_naming, check_outputs
from streams.worker.open_letters import OpenLetters
from streams.worker.rebuild import Ownership, Rebuild
from streams.worker.takeover import Cancelled, Takeover, begin_at
from streams.worker.unanswered import Key, Said

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
        self._copies = Copies(settings, memory, changelogs)
        self._changelogs = changelogs
        self._on_ready = on_ready
        self._on_end = on_end
        self._policy = policy
        self._cancelled = threading.Event()
        self._ownership = Ownership(group_metadata, self._cancelled)
        self._over = threading.Event()
        self._aborted: Future[dict[int, dict[Key, Said]]] = Future()

    def rows_read(self) -> int:
        """Return how many rows have been read so far; from any thread."""
        return self._copies.rows_n

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
            for number in list(self._copies.stores):
                failure_to_close = self._copies.close(number)
                error = error or failure_to_close
        if not self._cancelled.is_set():
            self._on_end(Progress(self.rows_read(), time.monotonic() - began), error)

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
                if self._cancelled.is_set():
                    raise Cancelled
                self._copies.open(number, found.log_ends[number])
            # Beside the changelogs: nobody is served meanwhile, and a slow Kafka takes its time.
            ends, over = found.log_ends, self._over
            self._aborted = beside.submit(aborted.find, self._settings, ends, over)
            damaged: dict[int, Damage] = {}

            def check(number: int) -> None:
                store, ids = self._copies.stores[number], self._changelogs.output_ids
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
        for number, store in self._copies.stores.items():
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
            self._copies.stores[number],
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
        left: dict[Place, int] = {}
        begin: list[TopicPartition] = []
        for number in partitions:
            offset = self._copies.reached[number][changelog].offset
            end = found.log_ends[number][changelog]
            if offset < end:
                left[name, number] = end
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
            got_to = self._copies.apply(fetch(consumer, READ_TIMEOUT_S), left)
            for place in [place for place, offset in got_to.items() if offset >= left[place]]:
                del left[place]
                on_done(place[1])
            if time.monotonic() - logged_s > PROGRESS_S:
                logged_s = time.monotonic()
                waits = sorted(number for _, number in left)
                logger.info("restoring: %d rows; %s waits for %s", self.rows_read(), name, waits)
        consumer.unassign()

    def _hand_over(self, number: int, found: Takeover) -> None:
        store = self._copies.stores[number]
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
        del self._copies.stores[number]  # from here on whoever gets it closes it
        self._on_ready(
            Restored(
                number,
                store,
                self._copies.reached[number],
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
