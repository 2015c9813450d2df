"""
Keeps warm copies of the partitions that other workers own, to take them over sooner.

Follows their changelogs into the local stores that a restore would otherwise have to fill: what is
left for it to read is what was written in the last moments.  A copy is closed before its partition
is restored here, and opened anew once the partition is another's.  It is only ever what committed
rows have said, so that a restore from it is one like after a restart.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.errors import Halt
from streams.kafka.reader import Place, fetch, reader
from streams.settings import Settings
from streams.state.store import Memory
from streams.worker.copies import Changelogs, Copies
from streams.worker.names import CHANGELOGS

if TYPE_CHECKING:
    from confluent_kafka import Message

logger = logging.getLogger(__name__)

READ_S: Final = 0.1  # of one read: how late it may be noticed that a copy is to be given up
READ_RECORDS: Final = 2_000  # then the hot path has its turn
FETCH_WAIT_MS: Final = 500  # the broker collects rows for so long: nobody waits for them
MEASURE_S: Final = 1.0
MARK_USED_S: Final = 60.0  # that a copy has missed nothing so far
AGAIN_S: Final = 30.0  # until a copy is tried again that could not be opened, read or written

Action = Callable[[int], object]  # with the copy of a partition

_CUT_OFF: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


class Standby(threading.Thread):
    """
    The copies of one worker: of all partitions but those that it is given.

    A copy that cannot be kept is given up, loudly, and tried again later: the worker serves what is
    its own meanwhile.  All methods may be called from other threads.
    on_failed: called in this one when no copies are kept any more, for a reason nobody thought of.
    """

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        changelogs: Changelogs,
        on_failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="standby", daemon=True)
        self._settings = settings
        self._copies = Copies(settings, memory, changelogs)
        self._on_failed = on_failed
        self._names = [settings.topic(topic) for topic in CHANGELOGS]
        self._everything = frozenset(range(changelogs.partitions_n))
        self._turn = threading.Condition()
        self._wanted: frozenset[int] = frozenset()
        self._held: frozenset[int] = frozenset()  # whose stores are open
        self._stopping = False
        self._failed: dict[int, float] = {}  # when a copy may be tried again
        self._at_end: set[Place] = set()
        self._lag: dict[int, int] = {}
        self._measured_s = self._marked_s = 0.0

    def leave(self, partitions: Iterable[int]) -> None:
        """Keep copies of all but *partitions*; returns once the stores of those are closed."""
        partitions = frozenset(partitions)
        with self._turn:
            self._wanted = self._everything - partitions
            self._turn.wait_for(lambda: not self._held & partitions or not self.is_alive())

    def stop(self) -> None:
        """Close all copies, and wait until that is done."""
        with self._turn:
            self._stopping = True
        if self.is_alive():
            self.join()

    def lag(self) -> Mapping[int, int]:
        """Return how many rows each copy is behind, as of lately, transactions' ends counted."""
        return self._lag

    def run(self) -> None:
        """Follow the changelogs until stopped."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  (told to whoever runs the worker)
            self._on_failed(error)
        finally:
            for number in list(self._copies.stores):
                self._give_up(number)
            self._tell_what_is_held()

    def _run(self) -> None:
        consumer = reader(
            self._settings,
            auto_offset_reset="error",  # rows that are gone must not be missed unseen
            fetch_wait_max_ms=FETCH_WAIT_MS,
            queued_max_messages_kbytes=16 * 1024,
        )
        try:
            while not self._stopping:
                if self._exchange():
                    consumer.assign(self._positions())
                self._apply(consumer, fetch(consumer, READ_S, READ_RECORDS))
                self._look(consumer)
        finally:
            consumer.close()

    def _exchange(self) -> bool:
        """Close and open stores as is wanted now; return whether others are followed now."""
        now_s = time.monotonic()
        with self._turn:
            wanted = self._wanted
        ready = {number for number in wanted if self._failed.get(number, 0.0) <= now_s}
        closing, opening = self._copies.stores.keys() - wanted, ready - self._copies.stores.keys()
        for number in closing:
            self._give_up(number)
        self._tell_what_is_held()
        for number in sorted(opening):
            with self._turn:
                if self._wanted != wanted or self._stopping:
                    break
                self._held |= {number}
            self._try(number, self._copies.open)
        self._tell_what_is_held()
        return bool(closing or opening)

    def _tell_what_is_held(self) -> None:
        with self._turn:
            self._held = frozenset(self._copies.stores)
            self._turn.notify_all()

    def _positions(self) -> list[TopicPartition]:
        self._at_end.clear()
        return [
            TopicPartition(self._settings.topic(topic), number, reached.offset)
            for number in self._copies.stores
            for topic, reached in self._copies.reached[number].items()
        ]

    def _apply(self, consumer: Consumer, messages: "list[Message]") -> None:
        """Bring rows into the copies, one partition at a time: one's failure is not another's."""
        of_partition: dict[int, list[Message]] = {}
        for message in messages:
            of_partition.setdefault(message.partition() or 0, []).append(message)
        lost = False
        for number, found in of_partition.items():
            if number in self._copies.stores:
                lost |= not self._follow(number, found)
        if lost:
            consumer.assign(self._positions())

    def _follow(self, number: int, messages: "list[Message]") -> bool:
        """Apply what was read of one partition; return whether it goes on from there."""
        codes = {error.code() for message in messages if (error := message.error()) is not None}
        if codes.intersection(_CUT_OFF):
            logger.warning("the copy of partition %d lies outside of its changelog: anew", number)
            self._try(number, self._copies.begin_anew)
            return False
        places = [(name, number) for name in self._names]
        self._try(number, lambda _: self._copies.apply(messages, places))
        for message in messages:
            place, error = (message.topic() or "", number), message.error()
            if error is None:
                self._at_end.discard(place)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add(place)
        return number in self._copies.stores

    def _try(self, number: int, action: Action) -> None:
        """Do what may fail with a copy; if it does, give the copy up for a while."""
        try:
            action(number)
        except Halt as error:
            logger.warning(
                "no warm copy of partition %d is kept, tried again in %.0f s: %s",
                number,
                AGAIN_S,
                error,
            )
            self._failed[number] = time.monotonic() + AGAIN_S
            if number in self._copies.stores:
                self._give_up(number)

    def _give_up(self, number: int) -> None:
        path = self._copies.stores[number].path
        self._mark_used(number)
        failure = self._copies.close(number)
        if failure is not None:  # whoever opens the store next finds out what is wrong with it
            logger.warning("%s: %s", path, failure)
        self._lag = {each: rows for each, rows in self._lag.items() if each != number}

    def _look(self, consumer: Consumer) -> None:
        """Measure how far behind the copies are, and note that they have missed nothing."""
        now_s = time.monotonic()
        if now_s - self._measured_s > MEASURE_S:
            self._measured_s = now_s
            found = {number: self._behind(consumer, number) for number in self._copies.stores}
            self._lag = {number: rows for number, rows in found.items() if rows is not None}
        if now_s - self._marked_s > MARK_USED_S:
            self._marked_s = now_s
            for number in self._copies.stores:
                self._mark_used(number)

    def _mark_used(self, number: int) -> None:
        """Note that a copy has missed nothing so far, if it is at the ends of both changelogs."""
        if all((name, number) in self._at_end for name in self._names):
            self._copies.stores[number].mark_used(int(time.time() * 1000))

    def _behind(self, consumer: Consumer, number: int) -> int | None:
        """Return how many rows of both changelogs a copy lacks; None while nothing was fetched."""
        behind = 0
        for topic, reached in self._copies.reached[number].items():
            place = TopicPartition(self._settings.topic(topic), number)
            end = consumer.get_watermark_offsets(place, cached=True)[1]
            if end < 0:
                return None
            behind += max(end - reached.offset, 0)
        return behind
