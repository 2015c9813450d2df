"""
The heart of a worker: rounds in, one transaction per cycle out.

A cycle is all rounds that were decoded by the time its transaction begins, over all partitions.
It is folded while the last one commits, and what arrives meanwhile joins it.  What must not
happen is a matter of generations: a round of an earlier assignment, or from before a rollback, is
dropped and never folded.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol

from streams.errors import Halt
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state import rows
from streams.state.store import Store
from streams.worker.fetch import Fetch
from streams.worker.folded import Folded
from streams.worker.intake import Intake
from streams.worker.partition import Partition
from streams.worker.rounds import Assigned
from streams.worker.timers import GrantRate
from streams.worker.transaction import Aborted, Publisher

if TYPE_CHECKING:
    from faust.types import EventT

logger = logging.getLogger(__name__)

STUCK_S: Final = 30.0  # a round decodes in milliseconds: one that has not come by then never will
MARK_USED_S: Final = 3600.0
TICK_S: Final = 0.25  # how late a timer may be noticed when nothing arrives
ABORT_PAUSE_S: Final = 0.2  # after a rollback, so that a broken cluster is not hammered


class Decoded:
    """A round on its way through the agents: complete when each topic's agent has decoded it."""

    def __init__(self, generation: int, topics_n: int, *, express: bool) -> None:
        self.generation = generation
        self.express = express
        self.intakes: list[Intake] = []
        self.events: list[EventT[Any]] = []
        self._missing = topics_n

    @property
    def complete(self) -> bool:
        """Whether all of the round is decoded."""
        return self._missing == 0

    def add(self, intakes: list[Intake], event: "EventT[Any]") -> bool:
        """Add a topic's part; return whether the round is complete."""
        self.intakes += intakes
        self.events.append(event)
        self._missing -= 1
        return self.complete

    def finish(self) -> None:
        """
        Acknowledge the events, and let go of them.

        They lead back here: left to Python's collector, it would stop the worker for 160 ms.
        """
        for event in self.events:
            event.ack()
        self.events.clear()
        self.intakes.clear()


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
        self._grant_rate = GrantRate(settings.grant_rate)
        self._thread = ThreadPoolExecutor(1, "transaction")
        self._expected: deque[Decoded] = deque()  # rounds on their way, in the order of offsets
        self._inbox: list[Decoded] = []
        self._wake = asyncio.Event()
        self._generation: int | None = None  # None: every round is void
        self._assigned: Assigned | None = None
        self._committing: asyncio.Future[None] | None = None
        self._committed: dict[int, dict[str, int]] = {}
        self._stopping = False
        self._marked_s = time.monotonic()

    def now_ms(self) -> int:
        """Return the worker's clock, with the offset it was given for rehearsals."""
        return int((time.time() + self._settings.clock_offset_s) * 1000)

    async def start(self) -> None:
        """Get the producer ready."""
        await self._in_thread(self._publisher.start)

    def accept(self, assigned: Assigned) -> None:
        """From now on fold rounds of a new assignment."""
        self._assigned = assigned
        self._void()
        self._generation = assigned.generation

    def resume(self, generation: int) -> None:
        """From now on fold rounds of *generation*, read again after a rollback."""
        if self._assigned is not None:
            self._void()
            self._generation = generation
            self._wake.set()

    def expect(self, decoded: Decoded) -> None:
        """Note a round that is on its way through the agents."""
        if decoded.generation == self._generation:
            self._expected.append(decoded)

    def add_partition(self, partition: Partition) -> None:
        """Own a restored partition."""
        self.partitions[partition.number] = partition
        self._committed[partition.number] = dict(partition.positions)
        self._wake.set()

    def wake(self) -> None:
        """Look at once whether there is work that no record brings."""
        self._wake.set()

    def submit(self, _: Decoded) -> None:
        """Take the rounds that are complete, as far as those before them are."""
        while self._expected and self._expected[0].complete:
            self._inbox.append(self._expected.popleft())
            self._wake.set()

    def _void(self) -> None:
        """Drop all rounds; nothing is folded until a generation is accepted."""
        self._generation = None
        self._expected.clear()
        self._inbox = []

    async def give_up(self) -> None:
        """Let the transaction in hand end, forget the rest, and close all stores."""
        self._void()
        self._assigned = None
        if self._committing is not None:
            await asyncio.wait([self._committing])
        stores = [partition.store for partition in self.partitions.values()]
        self.partitions.clear()
        self._committed.clear()
        await self._in_thread(lambda: _close(stores))

    async def stop(self) -> None:
        """End after the transaction in hand."""
        self._stopping = True
        self._publisher.stop()
        await self.give_up()
        await self._in_thread(self._publisher.close)
        self._wake.set()
        self._thread.shutdown(wait=False)

    async def run(self) -> None:
        """Run cycles; raises `Halt` when that cannot go on."""
        while not self._stopping:
            await self._work_to_do()
            if self._stopping:
                break
            self._mark_used()
            rounds, self._inbox = self._inbox, []
            generation = self._generation
            cycle = self._fold(rounds)
            while self._committing is not None:
                await self._committed_or_woken(self._committing)
                if generation == self._generation and self._inbox:
                    joining, self._inbox = self._inbox, []
                    rounds += joining
                    cycle += self._fold_joining(joining)
                self._check_committing()
            if generation != self._generation:
                continue  # rolled back or given up meanwhile, and what was folded with it
            assert self._assigned is not None
            metadata = self._assigned.group_metadata
            self._committing = asyncio.ensure_future(self._commit(cycle, rounds, metadata))

    async def _work_to_do(self) -> None:
        since_s = time.monotonic()
        while not (self._stopping or self._inbox or self._has_work()):
            self._check_committing()
            if self._committing is not None or not self._fetch.has_unfinished():
                since_s = time.monotonic()
            elif time.monotonic() - since_s > STUCK_S:
                raise Halt(f"a round has not come through Faust for {STUCK_S:.0f} s")
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), TICK_S)
            except TimeoutError:
                continue
        self._check_committing()

    async def _committed_or_woken(self, committing: asyncio.Future[None]) -> None:
        """Wait for the transaction in hand, or until something has come in."""
        self._wake.clear()
        woken = asyncio.ensure_future(self._wake.wait())
        ends: set[asyncio.Future[Any]] = {committing, woken}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()

    def _check_committing(self) -> None:
        """Raise what ended the last commit, if it was no rollback."""
        if self._committing is not None and self._committing.done():
            done, self._committing = self._committing, None
            done.result()

    def _has_work(self) -> bool:
        if self._generation is None:
            return False
        now_ms, grants = self.now_ms(), self._grant_rate.left()
        return any(partition.has_work(now_ms, grants) for partition in self.partitions.values())

    def _mark_used(self) -> None:
        """Note now and then that the stores are in use: one long unused is thrown away."""
        if time.monotonic() - self._marked_s > MARK_USED_S:
            self._marked_s = time.monotonic()
            for partition in self.partitions.values():
                partition.store.mark_used(int(time.time() * 1000))

    def _fold(self, rounds: list[Decoded]) -> list[Folded]:
        by_partition = _by_partition(rounds)
        now_ms, grants = self.now_ms(), self._grant_rate.left()
        busy = [
            partition
            for number, partition in self.partitions.items()
            if number in by_partition or partition.has_work(now_ms, grants)
        ]
        share = -(-grants // max(len(busy), 1))
        with_jobs = sum(1 for partition in busy if partition.view.jobs)
        slice_items = self._settings.fanout_slice_items // max(with_jobs, 1)
        return self._folded(busy, by_partition, now_ms, slice_items, share)

    def _fold_joining(self, rounds: list[Decoded]) -> list[Folded]:
        """Fold what joins a cycle: records alone; of the rest the cycle has had its share."""
        by_partition = _by_partition(rounds)
        busy = [self.partitions[number] for number in by_partition if number in self.partitions]
        return self._folded(busy, by_partition, self.now_ms(), 0, 0)

    def _folded(
        self,
        partitions: list[Partition],
        by_partition: dict[int, list[Intake]],
        now_ms: int,
        slice_items: int,
        grants: int,
    ) -> list[Folded]:
        cycle = [
            _fold(each, by_partition.get(each.number, []), now_ms, slice_items, grants)
            for each in partitions
        ]
        self._grant_rate.spend(sum(part.grants_by_time for part in cycle))
        self._watch.on_folded(cycle)
        return cycle

    async def _commit(
        self, cycle: list[Folded], rounds: list[Decoded], group_metadata: object
    ) -> None:
        try:
            await self._in_thread(lambda: self._publisher.publish(cycle, group_metadata))
        except Aborted as aborted:
            self._metrics.transaction("fenced" if aborted.fenced else "aborted")
            for part in cycle:
                said = part.partition.unanswered
                said.aborted(part.outputs, part.positions, self.now_ms())
            self._roll_back()
            await asyncio.sleep(ABORT_PAUSE_S)
            return
        self._metrics.transaction("committed")
        for part in cycle:
            part.partition.persisted(part)
            self._committed[part.partition.number] = part.positions
        for each in rounds:
            each.finish()
        self._finish_rounds(rounds)
        self._watch.on_committed(cycle)

    def _roll_back(self) -> None:
        """Forget all that is not committed, and read its inputs again."""
        if self._assigned is None:
            return  # given up meanwhile
        self._void()
        for number, partition in self.partitions.items():
            partition.roll_back(self._committed[number])
        self._watch.rolled_back()
        self._fetch.rewind(self._committed.copy(), self._assigned.number)

    def _finish_rounds(self, rounds: list[Decoded]) -> None:
        for each in rounds:
            self._fetch.finished(each.generation, express=each.express)

    async def _in_thread(self, call: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _by_partition(rounds: list[Decoded]) -> dict[int, list[Intake]]:
    found: dict[int, list[Intake]] = {}
    for each in rounds:
        for intake in each.intakes:
            found.setdefault(intake.partition, []).append(intake)
    return found


def _close(stores: list[Store]) -> None:
    for store in stores:
        try:
            store.mark_used(int(time.time() * 1000))
            store.close()
        except Exception as failure:  # noqa: BLE001  (rocksdict raises bare ones)
            # Nothing is lost by it, and the other stores, and the group, must be left all the same.
            logger.error("%s could not be closed: %s", store.path, failure)


def _fold(
    partition: Partition, intakes: list[Intake], now_ms: int, slice_items: int, grants: int
) -> Folded:
    try:
        return partition.fold(intakes, now_ms, slice_items, grants)
    except rows.NewerRow as error:
        raise Halt(f"{partition.store.path}: {error}") from error
