"""
The parts of a worker put together: a Faust app on our transport, with its cycle and its HTTP.

Rebalances pass through here: the fetch thread calls, the event loop acts, the thread waits.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import faust
from faust.types import TP
from mode import Service
from yarl import URL

from streams.core.breaker import Limit
from streams.core.policy import Policy
from streams.errors import Halt, UsageProblem
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.store import Memory
from streams.tracing import Spans
from streams.worker.agents import add_agents
from streams.worker.copies import Changelogs
from streams.worker.cycle import Cycle, Decoded, Watch
from streams.worker.fetch import Fetch
from streams.worker.http import HttpServer
from streams.worker.left_open import client_id, transactional_id
from streams.worker.partition import Partition
from streams.worker.restore import Progress, Restore, Restored
from streams.worker.rounds import Assigned, Round, Start
from streams.worker.spans import RecordSpans, WatchedBySpans
from streams.worker.standby import Standby
from streams.worker.status import WorkerStatus
from streams.worker.stores import Stores
from streams.worker.trail import Trail
from streams.worker.transaction import Publisher
from streams.worker.transport import FAUST_LOGGER, RoundConsumer, Transport
from streams.worker.watchdog import Watchdog

logger = logging.getLogger(__name__)

WATCH_S: Final = 5.0
HAND_OVER_MARGIN: Final = 0.9  # of the rebalance timeout: longer, and the group would expel us


class App(faust.App):
    """A Faust app that knows the service's settings, for its transport."""

    logger = FAUST_LOGGER
    settings_of_service: Settings


class ObjectionWorker(Service):
    """
    The service beside Faust's: cycle, fetch, restore, HTTP.  Implements `fetch.Listener`.

    failure: set when the worker cannot go on; whoever runs it ends the process.
    """

    logger = FAUST_LOGGER

    def __init__(
        self,
        app: App,
        settings: Settings,
        policy: Policy,
        changelogs: Changelogs,
        metrics: Metrics,
        instance: str,
        spans: Spans | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app = app
        self._loop_here = asyncio.get_running_loop()
        self._settings = settings
        self._policy = policy
        self._subjects = settings.subjects()
        self._changelogs = changelogs
        self._metrics = metrics
        self._memory = Memory(settings.block_cache_bytes)
        self._publisher = Publisher(settings, transactional_id(settings, instance))
        self._watchdog = Watchdog(lambda: self._publisher.call)
        self._followed, partitions_n = changelogs.followed, changelogs.partitions_n
        client = client_id(settings, instance)
        self._fetch = Fetch(settings, self, partitions_n, client, self._followed)
        self._stores = Stores(
            settings,
            metrics,
            changelogs.partitions_n,
            self._loop_here.call_soon_threadsafe,
            self.fail,
        )
        self.status = WorkerStatus(
            settings, self._fetch, metrics, self._stores, instance, self._followed
        )
        self._spans = None if spans is None else RecordSpans(settings, spans)
        watch: Watch = self.status
        if self._spans is not None:
            watch = WatchedBySpans(watch, self._spans)
        self.cycle = Cycle(settings, self._publisher, self._fetch, metrics, watch)
        self.status.partitions = self._stores.partitions = self.cycle.partitions
        metrics.watch(self.status)
        self._standby = Standby(settings, self._memory, changelogs, self.on_failed)
        self.status.standby_lag = self._standby.lag
        self._http = HttpServer(settings, self.status, metrics)
        self._restore: Restore | None = None
        self._assignment = -1
        self._stopping = False
        add_agents(
            app,
            settings,
            self.cycle.submit,
            self.fail,
            self._followed,
            partitions_n,
            self._spans,
        )

    async def on_start(self) -> None:
        """Start serving HTTP at once; reading begins when Faust and the producer are ready."""
        self._watchdog.start()
        await self._http.start()
        logger.info("status page and metrics: http://%s/", self._http.address)

    @Service.task
    async def _run(self) -> None:
        try:
            consumer = self._consumer
            await self.cycle.start()
            await consumer.subscribed.wait()
            self._fetch.start()
            self._stores.start()
            if self._settings.standby:
                self._standby.start()
            await self.cycle.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  (told to whoever runs the worker)
            self.fail(error)

    @Service.task
    async def _look(self) -> None:
        while not self.should_stop:
            await self.sleep(WATCH_S)
            self.status.look()

    async def on_stop(self) -> None:
        """Finish the transaction in hand, then leave the group."""
        self._stopping = True
        await self._cancel_restore()
        await self.cycle.stop()
        self._fetch.stop()
        if self._fetch.is_alive():
            await asyncio.to_thread(self._fetch.join)
        self._watchdog.stop()
        await asyncio.to_thread(self._standby.stop)
        await asyncio.to_thread(self._stores.stop)
        await self._http.stop()

    def fail(self, error: BaseException) -> None:
        """End the worker because of *error*."""
        if not self.failure.done():
            self.failure.set_exception(error)

    @property
    def _consumer(self) -> RoundConsumer:
        consumer = self._app.consumer
        assert isinstance(consumer, RoundConsumer)
        return consumer

    # What follows is called in the fetch thread.

    def on_round(self, taken: Round) -> None:
        """Pass a round on to Faust."""
        self._loop_here.call_soon_threadsafe(self._deliver, taken, time.time_ns())

    def on_assigned(self, assigned: Assigned) -> None:
        """Let the event loop take partitions over; returns when they are held, not yet ready."""
        self._hand_over(self._take_over(assigned))

    def on_revoked(self) -> None:
        """Let the event loop give all partitions up; returns when it has."""
        self._hand_over(self._give_up())

    def on_rewound(self, generation: int) -> None:
        """Accept rounds again after a rollback."""
        self._loop_here.call_soon_threadsafe(self.cycle.resume, generation)

    def on_serving(self, partition: int) -> None:
        """Note that a partition is served, unless it was lost meanwhile."""
        self._loop_here.call_soon_threadsafe(self._serve, partition)

    def on_lagging(self, partition: int) -> None:
        """Let a partition grant nothing more."""
        self._loop_here.call_soon_threadsafe(self._hold, partition)

    def on_caught_up(
        self, partition: int, positions: dict[str, int], free: dict[str, int] | None
    ) -> None:
        """Let a partition grant again once all that could restrict is folded."""
        self._loop_here.call_soon_threadsafe(self._release, partition, positions, free)

    def on_failed(self, error: BaseException) -> None:
        """End the worker."""
        self._loop_here.call_soon_threadsafe(self.fail, error)

    def _hand_over(self, action: Coroutine[Any, Any, None]) -> None:
        future = asyncio.run_coroutine_threadsafe(action, self._loop_here)
        timeout_s = self._settings.rebalance_timeout_ms / 1000 * HAND_OVER_MARGIN
        try:
            future.result(timeout_s)
        except TimeoutError as error:
            raise Halt(
                f"a rebalance took over {timeout_s:.1f} s (OBJECTIONS_REBALANCE_TIMEOUT_MS): the "
                "transaction in hand does not end, as Kafka does not answer"
            ) from error

    # What follows runs in the event loop.

    def _deliver(self, taken: Round, fetched_ns: int) -> None:
        self.status.taken(taken)
        if self._spans is not None:
            self._spans.taken(taken, fetched_ns)
        decoded = Decoded(taken.generation, len(taken.batches), express=taken.express)
        self.cycle.expect(decoded)
        self._consumer.deliver(taken, decoded)

    async def _take_over(self, assigned: Assigned) -> None:
        topics, numbers = self._followed.all, assigned.partitions
        tps = {TP(self._settings.topic(topic), number) for topic in topics for number in numbers}
        if self._stopping:
            return
        self._assignment = assigned.number
        self.cycle.accept(assigned)
        self._assigned(assigned.partitions, member=True)
        logger.info("assigned: partitions %s", sorted(assigned.partitions))
        await asyncio.to_thread(self._standby.leave, assigned.partitions)
        await self._consumer.faust_assigned(tps, assigned.generation)
        if not assigned.partitions:
            return
        number = assigned.number
        self._restore = Restore(
            self._settings,
            assigned.partitions,
            self._memory,
            self._changelogs,
            self._policy,
            assigned.group_metadata,
            lambda restored: self._pass(number, restored),
            self._pass_end,
        )
        self._metrics.restore_begun()
        self.status.restored_rows = self._restore.rows_read
        self._restore.start()

    def _pass(self, assignment: int, restored: Restored) -> None:
        """Pass a restored partition to the loop; in the restore's thread."""
        self._loop_here.call_soon_threadsafe(self._own, assignment, restored)

    def _pass_end(self, progress: Progress, error: BaseException | None) -> None:
        """Pass on that a restore has ended; in its thread."""
        self._loop_here.call_soon_threadsafe(self._restore_ended, progress, error)

    def _own(self, assignment: int, restored: Restored) -> None:
        if assignment != self._assignment:
            restored.store.close()
            return
        try:
            partition = self._partition(restored)
        except UsageProblem as error:
            restored.store.close()
            self.fail(error)
            return
        except Halt as error:  # the loop would log it, and the partition stay unserved
            restored.store.close()
            self.fail(Halt(f"{restored.store.path}: {error}"))
            return
        partition.unanswered.add(restored.aborted, restored.ends, self.cycle.now_ms())
        partition.positions_unsaid = restored.committed != restored.positions
        partition.outputs_known(self._changelogs.output_ids)
        self.cycle.add_partition(partition)
        self._stores.taken_over(restored.number, assignment)
        self._fetch.start_partition(
            Start(restored.number, restored.positions, restored.ends), assignment
        )

    def _partition(self, restored: Restored) -> Partition:
        return Partition(
            restored.number,
            restored.store,
            restored.reached,
            restored.positions,
            self._policy,
            f"/objection-streams/{self._settings.group}",
            self._settings.topic("content"),
            self._settings.fanout_inline_items,
            self.cycle.now_ms(),
            self._settings.stores,
            int(self._settings.clock_offset_s * 1000),
            restored.letters,
            Limit(
                self._settings.breaker_percent,
                self._settings.breaker_users_min,
                self._settings.breaker_window_s * 1000,
            ),
            self._subjects,
            Trail(restored.store, restored.number) if self._changelogs.with_trail else None,
            tells=self._followed.links,
        )

    def _restore_ended(self, progress: Progress, error: BaseException | None) -> None:
        self.status.restored_rows = None
        if error is not None:
            self.fail(error)
            return
        self._metrics.restored(progress.rows, progress.seconds)
        logger.info("restored %d rows in %.1f s", progress.rows, progress.seconds)

    def _serve(self, number: int) -> None:
        if number in self.cycle.partitions:
            self.status.serves(number)

    def _hold(self, number: int) -> None:
        partition = self.cycle.partitions.get(number)
        if partition is not None:
            partition.hold()

    def _release(self, number: int, positions: dict[str, int], free: dict[str, int] | None) -> None:
        partition = self.cycle.partitions.get(number)
        if partition is None:
            return
        if free is not None:
            free = {self._settings.topic(topic): offset for topic, offset in free.items()}
        partition.release_at(positions, free)
        self.cycle.wake()

    async def _give_up(self) -> None:
        self._assignment = -1
        self._assigned(frozenset(), member=False)
        await self._cancel_restore()
        await self.cycle.give_up()
        self._stores.given_up()
        await self._consumer.faust_revoked()
        logger.info("partitions given up")

    def _assigned(self, partitions: frozenset[int], *, member: bool) -> None:
        self.status.assigned(partitions, member=member)
        if self._spans is not None:
            self._spans.rolled_back()

    async def _cancel_restore(self) -> None:
        restore, self._restore = self._restore, None
        self.status.restored_rows = None
        if restore is not None:
            await asyncio.to_thread(restore.cancel)


def make_app(settings: Settings) -> App:
    """Return a Faust app on our transport, with all that it would do by itself turned off."""
    app = App(
        settings.group,
        broker="objections://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        store="memory://",
        datadir=str(settings.state_dir / "faust"),
        loghandlers=[],
    )
    app.settings_of_service = settings
    app.transport = Transport([URL("objections://")], app)
    return app


def read_instance(state_dir: Path) -> str:
    """
    Return the id of the worker that keeps its state in *state_dir*; it outlives restarts.

    A restarted worker's producer so aborts the transaction its killed forerunner left open.
    """
    path = state_dir / "instance"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        instance = uuid.uuid4().hex[:12]
        path.write_text(instance)
        return instance
    except OSError as error:
        raise Halt(f"{path}: {error}") from error
