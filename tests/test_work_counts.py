"""
How much work a thousand records take: counted, as time says little on a busy machine.

The bounds are what it took when they were written, and a tenth more.  Whoever needs less lowers
them; whoever needs more says for what.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import pytest

from streams.bench.offline import Offline
from streams.bench.produce import preload
from streams.bench.workload import make
from streams.kafka.local import LocalKafka
from streams.state.store import Memory, Reached, Row, Store
from streams.worker.folded import Folded
from tests.making import NOW_MS
from tests.worker_process import Worker, apply_topics, wait_until_caught_up

RECORDS = 8_000
CYCLE_RECORDS = 2_000
PARTITIONS = 4

# Of a thousand records, over all partitions.
BOUNDS = {
    "batches written": 2,
    "bytes of changelogs": 217_737,
    "bytes of outputs": 143_405,  # 18,500 of them the audit trail: 171 a decision
    "calls of Python functions": 31_765,
    "headers": 10_703,
    "outputs": 1_254,
    "reads of many rows": 2,
    "reads of one row": 30,
    "rows asked for at once": 890,
    "rows of the items' changelog": 785,
    "rows of the users' changelog": 164,
    "rows scanned": 146,
    "rows written": 1_003,
    "scans": 19,
}
MARGIN = 1.1
TRANSACTIONS = 4  # of a thousand records; a transaction of one record each would be a thousand


class CountingStore(Store):
    """A store that counts what is asked of it."""

    def __init__(self, path: Path, memory: Memory, work: Counter[str]) -> None:
        self._work = work
        super().__init__(path, memory)

    def get(self, key: bytes) -> bytes | None:
        self._work["reads of one row"] += 1
        return super().get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        self._work["reads of many rows"] += 1
        self._work["rows asked for at once"] += len(keys)
        return super().get_many(keys)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        self._work["scans"] += 1
        for row in super().scan(prefix, after):
            self._work["rows scanned"] += 1
            yield row

    def write(self, batch: Iterable[Row], reached: Mapping[str, Reached]) -> None:
        rows = list(batch)
        self._work["batches written"] += 1
        self._work["rows written"] += len(rows)
        super().write(rows, reached)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return what a thousand records take, by kind of work, fan-outs and timers included."""
    work: Counter[str] = Counter()
    offline = Offline(
        tmp_path_factory.mktemp("work"),
        PARTITIONS,
        NOW_MS,
        lambda path, memory: CountingStore(path, memory, work),
    )
    rounds = list(offline.rounds(make(RECORDS, seed=1), CYCLE_RECORDS))
    offline.release()
    work.clear()  # what opening takes

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            work["calls of Python functions"] += 1

    profiler = sys.getprofile()
    for fetched in rounds:
        sys.setprofile(count)
        cycle = offline.fold(offline.decode(fetched))
        sys.setprofile(profiler)
        _finish(offline, cycle, work)
    while offline.has_work():
        _finish(offline, offline.fold([]), work)
    offline.close()
    return {name: number / RECORDS * 1000 for name, number in work.items()}


def _finish(offline: Offline, cycle: list[Folded], work: Counter[str]) -> None:
    for part in cycle:
        work["outputs"] += len(part.outputs)
        work["headers"] += sum(1 for output in part.outputs for _ in output.headers)
        work["bytes of outputs"] += sum(len(each.value or b"") for each in part.outputs)
        for kind, rows in (("users'", part.users_rows), ("items'", part.content_rows)):
            work[f"rows of the {kind} changelog"] += len(rows)
            work["bytes of changelogs"] += sum(len(key + (value or b"")) for key, value in rows)
    offline.write(cycle)
    offline.persisted(cycle)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_thousand_records_take_no_more_work_than_they_did(
    work: dict[str, float], name: str
) -> None:
    """Records, rows, reads, writes, bytes and steps of a thousand records stay within bounds."""
    assert work[name] <= BOUNDS[name] * MARGIN


def test_nothing_is_counted_without_a_bound(work: dict[str, float]) -> None:
    """Every kind of work that is counted is also guarded."""
    assert set(BOUNDS) == set(work)


def test_a_backlog_takes_few_transactions(kafka: LocalKafka, prefix: str, tmp_path: Path) -> None:
    """A worker that is behind commits many records at once, over all partitions."""
    apply_topics(kafka, prefix)
    preload(kafka.bootstrap, prefix, make(RECORDS, seed=1), lambda _: None)
    with Worker(kafka, prefix, tmp_path / "state") as worker:
        worker.wait_ready()
        wait_until_caught_up(kafka, prefix)
        committed = worker.metrics()['objections_transactions_total{outcome="committed"}']

    assert 0 < committed / RECORDS * 1000 <= TRANSACTIONS
