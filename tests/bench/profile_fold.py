"""
Where a worker's processor time goes, by step, without Kafka.

    python tests/bench/profile_fold.py --records 60000 --repeats 5
    python tests/bench/profile_fold.py --cprofile 40
    python tests/bench/profile_fold.py --account 100000 --kafka

Decodes and folds the benchmark's workload over real stores, a cycle at a time, and writes the rows.
Prints microseconds per input record by step (median and range of the repeats): processor time of
this thread, and in the last line of the whole process, RocksDB's threads included.  With --kafka
every cycle is also committed, by the worker's own publisher on a Kafka of its own.  With --account
an account of so many items objects, and the microseconds are those of one item's tombstone.
Every repeat does the same from the beginning, so alternating runs compare two versions of the code.
"""

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' helpers

from confluent_kafka import Consumer

from streams.bench.activity import account, objection
from streams.bench.offline import Offline, Round
from streams.bench.workload import Record, make
from streams.core.subjects import PLAIN, Subjects
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.metrics import Metrics
from streams.settings import Settings
from streams.worker.folded import Folded
from streams.worker.names import INPUTS, OUTPUTS, WITHOUT_LINKS
from streams.worker.run import spare_the_collector
from streams.worker.status import WorkerStatus
from streams.worker.transaction import Publisher

if TYPE_CHECKING:
    from streams.worker.fetch import Fetch
    from streams.worker.stores import Stores

T = TypeVar("T")

Publish = Callable[[list[Folded]], None]


class Work(NamedTuple):
    """
    What a repeat does.

    known: folded before, and not measured.  first: folded while grants are held, as they are at a
    start.  units: by what the time is divided.
    """

    known: Sequence[Record]
    first: Sequence[Record]
    records: Sequence[Record]
    units: int


class Steps:
    """Processor time by step in microseconds a unit, of one repeat."""

    def __init__(self, units: int) -> None:
        self.us: dict[str, float] = {}
        metrics = Metrics(INPUTS, OUTPUTS)
        # Of what it is not asked here it needs neither a consumer nor stores.
        self.status = WorkerStatus(
            Settings(),
            cast("Fetch", None),
            metrics,
            cast("Stores", _NoStores()),
            "profile",
            WITHOUT_LINKS,
        )
        self._units = units

    def time(self, name: str, call: Callable[[], T]) -> T:
        """Return what *call* returns, and add what this thread spent in it."""
        begun_s = time.thread_time()
        result = call()
        self.add(name, time.thread_time() - begun_s)
        return result

    def add(self, name: str, seconds: float) -> None:
        """Add time to a step."""
        self.us[name] = self.us.get(name, 0.0) + seconds / self._units * 1e6


def main() -> None:
    """Measure, and print a table or a profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--cycle", type=int, default=4_000, help="records of a cycle")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users-first", action="store_true", help="content last, as after a start")
    parser.add_argument("--account", type=int, metavar="N", help="purge N items of one account")
    parser.add_argument("--kafka", action="store_true", help="commit the cycles, too")
    parser.add_argument("--pseudonyms", action="store_true", help="as with OBJECTIONS_SUBJECT_KEY")
    parser.add_argument("--cprofile", type=int, metavar="N", help="show the N costliest functions")
    options = parser.parse_args()
    work = _work(options)
    spare_the_collector()
    with ExitStack() as stack:
        kafka = stack.enter_context(_kafka()) if options.kafka else None
        profile = cProfile.Profile() if options.cprofile else None
        repeats = [
            _repeat(
                work,
                options.partitions,
                options.cycle,
                kafka,
                profile,
                Subjects("k" * 64) if options.pseudonyms else PLAIN,
            )
            for _ in range(1 if profile else options.repeats)
        ]
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(options.cprofile)
        return
    load = os.getloadavg()[0]
    unit = "item" if options.account else "record"
    print(f"{work.units:,} {unit}s, {options.repeats} repeats, load {load:.1f}")
    for name in repeats[0].us:
        values = [repeat.us[name] for repeat in repeats]
        median = statistics.median(values)
        print(f"{name:<10} {median:6.2f} us/{unit}  ({min(values):.2f}-{max(values):.2f})")


def _work(options: argparse.Namespace) -> Work:
    if options.account:
        known = account(options.account, "account")
        return Work(known, [], [objection("account")], options.account)
    records = make(options.records, options.seed)
    if not options.users_first:
        return Work([], [], records, len(records))
    first = [record for record in records if record.topic != "content"]
    rest = [record for record in records if record.topic == "content"]
    return Work([], first, rest, len(records))


def _repeat(
    work: Work,
    partitions_n: int,
    cycle_records: int,
    kafka: LocalKafka | None,
    profile: cProfile.Profile | None,
    subjects: Subjects,
) -> Steps:
    steps = Steps(work.units)
    with tempfile.TemporaryDirectory(prefix="objections-profile-") as name, ExitStack() as stack:
        publish = None
        if kafka is not None:
            publish = stack.enter_context(_publisher(kafka, partitions_n, Path(name).name))
        offline = Offline(Path(name), partitions_n, int(time.time() * 1000), subjects=subjects)
        stack.callback(offline.close)
        for fetched in offline.rounds(work.known, cycle_records):
            _cycle(Steps(1), offline, fetched, publish)
        if work.known:
            offline.release()
            _work_off(Steps(1), offline, publish)
        held = list(offline.rounds(work.first, cycle_records))
        rounds = list(offline.rounds(work.records, cycle_records))
        begun_s = time.process_time()
        if profile is not None:
            profile.enable()
        for fetched in held:
            _cycle(steps, offline, fetched, publish)
        offline.release()
        for fetched in rounds:
            _cycle(steps, offline, fetched, publish)
        _work_off(steps, offline, publish)
        if profile is not None:
            profile.disable()
        steps.add("thread", sum(steps.us.values()) * work.units / 1e6)
        steps.add("process", time.process_time() - begun_s)
    return steps


def _work_off(steps: Steps, offline: Offline, publish: Publish | None) -> None:
    while offline.has_work():
        _cycle(steps, offline, [], publish)


def _cycle(steps: Steps, offline: Offline, fetched: Round, publish: Publish | None) -> None:
    intakes = steps.time("decode", lambda: offline.decode(fetched))
    cycle = steps.time("fold", lambda: offline.fold(intakes))
    if publish is None:
        steps.time("write", lambda: offline.write(cycle))
    else:
        steps.time("publish", lambda: publish(cycle))
    steps.time("persisted", lambda: offline.persisted(cycle))
    steps.time("metrics", lambda: _count(steps.status, cycle))


def _count(status: WorkerStatus, cycle: list[Folded]) -> None:
    """Tell the metrics of a cycle, as the worker's cycle does."""
    status.on_folded(cycle)
    status.on_committed(cycle)


class _NoStores:
    """No data store acknowledges."""

    def committed(self, part: Folded) -> None:
        """Do nothing."""


@contextmanager
def _kafka() -> Iterator[LocalKafka]:
    with (
        tempfile.TemporaryDirectory(prefix="objections-profile-kafka-") as name,
        LocalKafka(Path(name) / "kafka", c1_only=False) as kafka,
    ):
        yield kafka


@contextmanager
def _publisher(kafka: LocalKafka, partitions_n: int, name: str) -> Iterator[Publish]:
    """Return what commits a cycle and writes its rows, on fresh topics."""
    settings = Settings(bootstrap=kafka.bootstrap, topic_prefix=f"{name}.")
    admin.apply(admin.connect(settings), settings, partitions=partitions_n)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": name})
    publisher = Publisher(settings, name)
    publisher.start()
    metadata = consumer.consumer_group_metadata()
    yield lambda cycle: publisher.publish(cycle, metadata)
    publisher.close()
    consumer.close()


if __name__ == "__main__":
    main()
