"""
The heart of a worker: rounds in, one transaction per cycle out.

A cycle is all rounds that were decoded by the time it began, over all partitions.  The next one
is folded while the last one commits.  What must not happen is a matter of generations: a round
of an earlier assignment, or from before a rollback, is dropped and never folded.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol

from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.store import Store
from streams.worker.fetch import Fetch
from streams.worker.intake import Intake
from streams.worker.partition import Folded, Partition
from streams.worker.transaction import Aborted, Publisher

if TYPE_CHECKING:
    from faust.types import EventT

logger = logging.getLogger(__name__)

TICK_S: Final = 0.25  # how late a timer may be noticed when nothing arrives
ABORT_PAUSE_S: Final = 0.2  # after a rollback, so that a broken cluster is not hammered


class Decoded:
    """A round on its way through the agents: complete when each topic's agent has decoded it."""

    def __init__(self, generation: int, topics_n: int) -> None:
        self.generation = generation
        self.intakes: list[Intake] = []
        self.events: list[EventT[Any]] = []
        self._missing = topics_n

    def add(self, intakes: list[Intake], event: "EventT[Any]") -> bool:
        """Add a topic's part; return whether the round is complete."""
        self.intakes += intakes
        self.events.append(event)
        self._missing -= 1
        return self._missing == 0


class Watch(Protocol):
    """Who is told of a cycle's milestones, for the metrics."""

    def on_folded(self, cycle: list[Folded]) -> None:
        """A cycle has been decided."""

    def on_committed(self, cycle: list[Folded]) -> None:
        """A cycle's transaction is committed."""

    def rolled_back(self) -> None:
        """What was on its way is read again."""


class Cycle:
    """Folds and commits until stopped.  All methods are for the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        fetch: Fetch,
        metrics: Metrics,
        watch: Watch,
    ) -> None:
        self.partitions: dict[int, Partition] = {}
        self._settings = settings
        self._publisher = publisher
        self._fetch = fetch
        self._metrics = metrics
        self._watch = watch
        self._thread = ThreadPoolExecutor(1, "transaction")
        self._inbox: list[Decoded] = []
        self._wake = asyncio.Event()
        self._generation: int | None = None  # None: every round is void
        self._group_metadata: object = None
        self._committing: asyncio.Future[None] | None = None
        self._committed: dict[int, dict[str, int]] = {}
        self._stopping = False

    def now_ms(self) -> int:
        """Return the worker's clock, with the offset it was given for rehearsals."""
        return int((time.time() + self._settings.clock_offset_s) * 1000)

    async def start(self) -> None:
        """Get the producer ready."""
        await self._in_thread(self._publisher.start)

    def accept(self, generation: int, group_metadata: object = None) -> None:
        """From now on fold rounds of *generation*."""
        self._generation = generation
        if group_metadata is not None:
            self._group_metadata = group_metadata

    def add_partition(self, partition: Partition) -> None:
        """Own a restored partition."""
        self.partitions[partition.number] = partition
        self._committed[partition.number] = dict(partition.positions)
        self._wake.set()

    def submit(self, decoded: Decoded) -> None:
        """Take a complete round."""
        self._inbox.append(decoded)
        self._wake.set()

    async def give_up(self) -> None:
        """Let the transaction in hand end, forget the rest, and close all stores."""
        self._generation = None
        self._finish_rounds(self._inbox)
        self._inbox = []
        if self._committing is not None:
            await asyncio.wait([self._committing])
        stores = [partition.store for partition in self.partitions.values()]
        self.partitions.clear()
        self._committed.clear()
        now_ms = self.now_ms()
        await self._in_thread(lambda: _close(stores, now_ms))

    async def stop(self) -> None:
        """End after the transaction in hand."""
        self._stopping = True
        self._publisher.stop()
        await self.give_up()
        self._wake.set()
        self._thread.shutdown(wait=False)

    async def run(self) -> None:
        """Run cycles; raises `Halt` when that cannot go on."""
        while not self._stopping:
            await self._work_to_do()
            if self._stopping:
                break
            rounds, self._inbox = self._inbox, []
            generation = self._generation
            cycle = self._fold([each for each in rounds if each.generation == generation])
            if self._committing is not None:
                await asyncio.wait([self._committing])
                self._check_committing()
            if generation != self._generation or not cycle:
                self._finish_rounds(rounds)
                continue
            self._committing = asyncio.ensure_future(self._commit(cycle, rounds))

    async def _work_to_do(self) -> None:
        while not (self._stopping or self._inbox or self._has_work()):
            self._check_committing()
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), TICK_S)
            except TimeoutError:
                continue
        self._check_committing()

    def _check_committing(self) -> None:
        """Raise what ended the last commit, if it was no rollback."""
        if self._committing is not None and self._committing.done():
            done, self._committing = self._committing, None
            done.result()

    def _has_work(self) -> bool:
        if self._generation is None:
            return False
        now_ms = self.now_ms()
        return any(partition.has_work(now_ms) for partition in self.partitions.values())

    def _fold(self, rounds: list[Decoded]) -> list[Folded]:
        by_partition: dict[int, list[Intake]] = {}
        for each in rounds:
            for intake in each.intakes:
                by_partition.setdefault(intake.partition, []).append(intake)
        now_ms = self.now_ms()
        busy = [
            partition
            for number, partition in self.partitions.items()
            if number in by_partition or partition.has_work(now_ms)
        ]
        with_jobs = sum(1 for partition in busy if partition.view.jobs)
        slice_items = self._settings.fanout_slice_items // max(with_jobs, 1)
        cycle = [
            partition.fold(by_partition.get(partition.number, []), now_ms, slice_items)
            for partition in busy
        ]
        self._watch.on_folded(cycle)
        return cycle

    async def _commit(self, cycle: list[Folded], rounds: list[Decoded]) -> None:
        try:
            await self._in_thread(lambda: self._publisher.publish(cycle, self._group_metadata))
        except Aborted as aborted:
            self._metrics.transaction("fenced" if aborted.fenced else "aborted")
            self._roll_back()
            await asyncio.sleep(ABORT_PAUSE_S)
            return
        self._metrics.transaction("committed")
        for part in cycle:
            part.partition.persisted(part)
            self._committed[part.partition.number] = part.positions
        for each in rounds:
            for event in each.events:
                event.ack()
        self._finish_rounds(rounds)
        self._watch.on_committed(cycle)

    def _roll_back(self) -> None:
        """Forget all that is not committed, and read its inputs again."""
        if self._generation is None:
            return
        self._generation = None
        self._finish_rounds(self._inbox)
        self._inbox = []
        positions = {}
        for number, partition in self.partitions.items():
            partition.roll_back(dict(self._committed[number]))
            for topic, offset in partition.positions.items():
                positions[topic, number] = offset
        self._watch.rolled_back()
        self._fetch.rewind(positions)

    def _finish_rounds(self, rounds: list[Decoded]) -> None:
        for each in rounds:
            self._fetch.finished(each.generation)

    async def _in_thread(self, call: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _close(stores: list[Store], now_ms: int) -> None:
    for store in stores:
        store.mark_used(now_ms)
        store.close()
