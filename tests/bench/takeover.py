"""
How long partitions are not served when their worker is killed, or leaves; with warm copies or not.

    python tests/bench/takeover.py --records 1000000 --repeats 3

Fills a Kafka of its own, lets two workers share its partitions, and sends 25 content records a
second to each partition.  Then one worker ends, by `kill -9` or SIGTERM, and comes back.  Printed
is, over the repeats, the longest time between two answers that a read_committed consumer gets of
one partition, in the seconds around the end and around the return: of partitions that the worker
had, and of the others.  A killed worker is missed only after its session timeout.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' helpers

import msgspec
from confluent_kafka import OFFSET_END, Producer, TopicPartition

from streams.bench.produce import preload
from streams.bench.workload import make
from streams.kafka.local import LocalKafka
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import fetch, reader
from streams.settings import Settings
from tests.standing_by import SERVING, is_warm, share
from tests.worker_process import (
    PARTITIONS,
    Worker,
    apply_topics,
    settings_of,
    wait_for,
)

PREFIX: Final = "takeover."
SESSION_TIMEOUT_MS: Final = 6_000  # the default
EVERY_S: Final = 0.04  # a record to each partition
STEADY_S: Final = 3.0  # before and after: what else there is to see
FILL_S: Final = 900.0
WARM_ROWS: Final = 100


class Gaps(NamedTuple):
    """The longest times without an answer in seconds: of partitions that move, and of the rest."""

    moved: float
    stayed: float


class Probe:
    """Content sent to every partition all the time, and when each was answered."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ended = threading.Event()
        self._answers: list[tuple[float, int]] = []
        users: dict[int, str] = {}
        for number in range(10_000):
            users.setdefault(partition_of(f"probe{number}".encode(), PARTITIONS), f"probe{number}")
        self._users = users
        self._threads = [threading.Thread(target=each) for each in (self._send, self._read)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def gaps(self, since_s: float, moving: set[int]) -> Gaps:
        """Return the longest times without an answer since *since_s*, by time.monotonic()."""
        now_s = time.monotonic()
        longest: dict[int, float] = {}
        for number in range(PARTITIONS):
            at = [since_s, *(s for s, each in self._answers if each == number and s > since_s)]
            longest[number] = max(b - a for a, b in zip(at, [*at[1:], now_s], strict=True))
        return Gaps(
            max(longest[number] for number in moving),
            max((longest[number] for number in longest.keys() - moving), default=0.0),
        )

    def _send(self) -> None:
        producer = Producer(self._settings.kafka(linger_ms=0))
        revision = 0
        while not self._ended.wait(EVERY_S):
            revision += 1
            for number, user_id in self._users.items():
                fields = {
                    "user_id": user_id,
                    "content_id": f"of-{user_id}",
                    "revision": revision,
                    "product": "facebook",
                    "kind": "post",
                    "modality": "text",
                    "visibility": "public",
                    "created_at": "2026-01-01T00:00:00Z",
                }
                topic, value = self._settings.topic("content"), msgspec.json.encode(fields)
                producer.produce(topic, value, user_id, number)
            producer.poll(0)
        producer.flush()

    def _read(self) -> None:
        consumer = reader(self._settings, fetch_wait_max_ms=10)
        topic = self._settings.topic("training-content")
        places = [TopicPartition(topic, number, OFFSET_END) for number in range(PARTITIONS)]
        consumer.assign(places)
        while not self._ended.is_set():
            now_s = time.monotonic()
            for message in fetch(consumer, 0.02):
                if message.error() is None and (message.key() or b"").startswith(b"of-probe"):
                    self._answers.append((now_s, message.partition() or 0))
        consumer.close()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="objections-bench-") as name,
        LocalKafka(Path(name) / "kafka", c1_only=False) as kafka,
    ):
        _measure(kafka, Path(name), options.records, options.repeats)


def _measure(kafka: LocalKafka, folder: Path, records: int, repeats: int) -> None:
    apply_topics(kafka, PREFIX)
    preload(kafka.bootstrap, PREFIX, make(records, 1), lambda _: None)
    with _worker(kafka, folder / "filler", "off") as filler:
        filler.wait_ready(FILL_S)
        lag = "objections_consumer_lag_records"
        wait_for(lambda: filler.metric(lag) == 0, "all records are worked off", FILL_S)
    print("standby  end      moved: s without service  s at its return  others: s  s at return")
    for standby in ("off", "on"):
        one, other = (_worker(kafka, folder / f"{standby}-{name}", standby) for name in "ab")
        with one, other, Probe(settings_of(kafka, PREFIX)) as probe:
            for number in (signal.SIGKILL, signal.SIGTERM):
                found = [_turn(one, other, probe, number, standby) for _ in range(repeats)]
                columns = zip(*[(*end, *back) for end, back in found], strict=True)
                moved, stayed, moved_back, stayed_back = map(_told, columns)
                print(
                    f"{standby:7}  {number.name:8} {moved:24}  {moved_back:15}  {stayed:16} "
                    f"{stayed_back}",
                    flush=True,
                )
    print(f"load {os.getloadavg()[0]:.1f}")


def _worker(kafka: LocalKafka, state: Path, standby: str) -> Worker:
    return Worker(kafka, PREFIX, state, session_timeout_ms=SESSION_TIMEOUT_MS, STANDBY=standby)


def _turn(
    one: Worker, other: Worker, probe: Probe, number: signal.Signals, standby: str
) -> tuple[Gaps, Gaps]:
    """End *one* and start it again; return the gaps of its end, and of its return."""
    wait_for(lambda: share(one, other), "both workers serve", FILL_S)
    if standby == "on":
        wait_for(
            lambda: is_warm(one, WARM_ROWS) and is_warm(other, WARM_ROWS), "warm copies", FILL_S
        )
    time.sleep(STEADY_S)
    moving = _partitions(one)
    began_s = time.monotonic()
    if number == signal.SIGKILL:
        one.kill9()
    else:
        one.terminate()
    wait_for(lambda: PARTITIONS == other.metrics()[SERVING], "the other serves all", FILL_S)
    time.sleep(STEADY_S)
    end = probe.gaps(began_s, moving)
    began_s = time.monotonic()
    one.start()
    wait_for(lambda: share(one, other), "both workers serve again", FILL_S)
    time.sleep(STEADY_S)
    return end, probe.gaps(began_s, moving)


def _partitions(worker: Worker) -> set[int]:
    """Return the numbers of the partitions that a worker owns."""
    series = "objections_fanout_pending_items{"
    return {int(each.split('"')[1]) for each in worker.metrics() if each.startswith(series)}


def _told(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
