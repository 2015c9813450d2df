"""
What faults are done to: Kafka, two workers behind proxies, a third that visits, and the load.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from streams.bench.connection import kafka_of_our_own, settings_at, variables
from streams.bench.faults.load import Load
from streams.bench.faults.plan import WORKERS
from streams.bench.faults.process import Worker
from streams.bench.faults.proxy import Proxy
from streams.bench.faults.watch import Watch
from streams.bench.run import fresh_place
from streams.errors import CommandError, Unreachable
from streams.kafka.local_cluster import LocalCluster
from streams.kafka.local_properties import HOST
from streams.kafka.ports import free_ports
from streams.settings import DEFAULT_SESSION_TIMEOUT_MS, Settings

PARTITIONS: Final = 4
WHOLE_S: Final = 120.0  # on a busy machine; a second or two after a session's end on an idle one
LOOK_S: Final = 0.05
SETTLED_S: Final = 0.5  # after which a commit asked for has been carried out on all partitions
RESTARTS_MAX: Final = 10  # of one worker until all is whole again

# What would make a run wait on a broker's defaults.
BROKER: Final = {
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",  # Default 10 s.
}
WORKER: Final = {
    "BREAKER_USERS_MIN": 1_000_000,  # people change their minds all the time here
    "SESSION_TIMEOUT_MS": 5_000,  # longer than Kafka is away; as short as that allows
    "REBALANCE_TIMEOUT_MS": 30_000,
    # Small, so that what is large in production comes about: jobs, and batches that cut a backlog.
    "FANOUT_INLINE_ITEMS": 8,
    "FANOUT_SLICE_ITEMS": 20,
    "BATCH_RECORDS": 100,
}
CRASH: Final = "Traceback (most recent call last)"

Say = Callable[[str], None]


class Wounded(CommandError):
    """The system has not become whole again."""


class Scene:
    """
    All that a fault can touch.

    ended: what workers that ended by themselves said last; they are started again.
    crashes: those of them that no reason was given for.
    starts_ms: when workers were started after there had been none.
    proxies: what stands between workers and each broker; none before a Kafka of others.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        load: Load,
        kafka: LocalCluster | None,
        proxies: Sequence[Proxy],
    ) -> None:
        self.folder, self.settings, self.load = folder, settings, load
        self._kafka, self.proxies = kafka, proxies
        self.watch = Watch(settings)
        bootstrap = ",".join(f"{HOST}:{proxy.port}" for proxy in proxies) or settings.bootstrap
        shared = {
            "BOOTSTRAP": bootstrap,
            "TOPIC_PREFIX": settings.topic_prefix,
            **variables(),
            **WORKER,
        }
        if kafka is None:  # which may not allow a shorter one
            shared["SESSION_TIMEOUT_MS"] = DEFAULT_SESSION_TIMEOUT_MS
        self.workers = [Worker(f"worker-{no}", folder, shared) for no in range(1, WORKERS + 1)]
        self.visitor = Worker("visitor", folder, shared)
        self.ended: list[str] = []
        self.crashes: list[str] = []
        self.starts_ms: list[int] = []

    @property
    def kafka(self) -> LocalCluster:
        """The Kafka that faults are done to."""
        assert self._kafka is not None, "a Kafka of others is left alone"
        return self._kafka

    def close(self) -> None:
        """End all workers."""
        for worker in (*self.workers, self.visitor):
            worker.end()
        self.watch.close()

    def start_all(self) -> None:
        """Start all workers, of which none is running."""
        self.starts_ms.append(int(time.time() * 1000))
        for worker in self.workers:
            worker.start()

    def wait_until_served(self, *by: Worker) -> None:
        """
        Return when the workers *by* together serve all partitions, and each some.

        One that has ended by itself is started again, as a supervisor would.  Raises `Wounded`.
        """
        deadline_s = time.monotonic() + WHOLE_S
        restarts = 0
        while True:
            restarts += sum(self.raise_up(worker) for worker in by)
            shares = [worker.serving() for worker in by]
            if sum(shares) == PARTITIONS and all(shares):
                return
            if time.monotonic() > deadline_s or restarts > RESTARTS_MAX:
                shown = ", ".join(f"{w.name} {n}" for w, n in zip(by, shares, strict=True))
                tails = "\n".join(worker.log_tail() for worker in by)
                raise Wounded(
                    f"of {PARTITIONS} partitions are served after {WHOLE_S:.0f} s and {restarts} "
                    f"restarts: {shown}\n{tails}"
                )
            time.sleep(LOOK_S)

    def wait_until_whole(self) -> None:
        """
        Return when both workers serve, each some partitions, and Kafka takes the load.

        Of several brokers all have caught up then: the next one lost is one again.
        """
        self.wait_until_served(*self.workers)
        if self._kafka is not None:
            try:
                self._kafka.wait_until_in_sync()
            except Unreachable as error:
                raise Wounded(str(error)) from error
        sent, deadline_s = self.load.sent, time.monotonic() + WHOLE_S
        while self._answered() < sent and self.load.is_alive():
            if time.monotonic() > deadline_s:
                left = self.load.under_way
                raise Wounded(f"Kafka has not taken {left} records of the load for {WHOLE_S:.0f} s")
            time.sleep(LOOK_S)

    def _answered(self) -> int:
        return self.load.acknowledged + self.load.abandoned

    @contextmanager
    def more_load(self, times: float) -> Iterator[None]:
        """Let so many times as much come in."""
        rate_per_s = self.load.rate_per_s
        self.load.rate_per_s = rate_per_s * times
        try:
            yield
        finally:
            self.load.rate_per_s = rate_per_s

    def raise_up(self, worker: Worker) -> bool:
        """Start *worker* again where it has ended by itself."""
        if worker.ended is None:
            return False
        self.note_end(worker)
        worker.start()
        return True

    def note_end(self, worker: Worker) -> None:
        """Keep what *worker* said last, which has ended by itself."""
        said = f"{worker.name} ended with status {worker.ended}: {worker.last_word()}"
        self.ended.append(said)
        if worker.ended not in {1, 3} or CRASH in worker.said():
            self.crashes.append(f"{said}\n{worker.log_tail()}")

    def other(self, worker: Worker) -> Worker:
        """Return the worker that is not *worker*."""
        return next(each for each in self.workers if each is not worker)

    @contextmanager
    def workers_standing_still(self) -> Iterator[None]:
        """
        Freeze all workers until what they have asked Kafka to commit is carried out.

        See `LocalKafka.kill`: a commit that Kafka was about to carry out when it died may hang.
        """
        for worker in self.workers:
            worker.freeze()
        try:
            time.sleep(SETTLED_S)
            yield
        finally:
            for worker in self.workers:
                worker.thaw()


@contextmanager
def running_scene(
    folder: Path, bootstrap: str | None, brokers: int, seed: int, rate_per_s: float, say: Say
) -> Iterator[Scene]:
    """
    Return a scene with a load, in which no worker runs yet; all ends with it.

    bootstrap: a Kafka of others; else one of so many *brokers* is started, each behind a proxy.
    """
    with ExitStack() as stack:
        kafka, proxies = None, []
        if bootstrap is None:
            stack.enter_context(kafka_of_our_own())
            say("starting Kafka" + (f", {brokers} brokers" if brokers > 1 else ""))
            ports = free_ports(2 * brokers)
            proxied = list(zip(ports[:brokers], ports[brokers:], strict=True))
            kafka = stack.enter_context(
                LocalCluster(folder / "kafka", brokers, properties=BROKER, proxied=proxied, say=say)
            )
            proxies = [stack.enter_context(Proxy(told, taken)) for taken, told in proxied]
            bootstrap = kafka.bootstrap
        place = stack.enter_context(fresh_place(bootstrap, PARTITIONS, folder, "faults"))
        settings = settings_at(bootstrap, place.prefix)
        load = Load(settings, seed, rate_per_s=rate_per_s, fresh=10)
        scene = Scene(place.folder, settings, load, kafka, proxies)
        stack.callback(scene.close)
        yield scene
