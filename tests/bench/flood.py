"""
What a flood of bad records does to a worker and to everybody else.

    python -m tests.bench.flood --records 200000             every one of a user of its own
    python -m tests.bench.flood --records 50000 --users 1    all of one
    python -m tests.bench.flood --records 50000 --users 1 --topic content    all of one item

Sends them as fast as the worker's Kafka takes them; meanwhile users who have none object, one
after the other, in the flooded partition among others.  Prints bad records a second from the first
that was sent to the last that is committed, the worker's memory before and at its highest, and how
long the objections took until a reader of committed data had their decisions.  One that lies in the
flooded topic waits for what lies before it there: give a `--rate` below what the worker does.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from confluent_kafka import Consumer, TopicPartition

from streams.bench.latency import spread
from streams.kafka.local import LocalKafka
from tests.making import Record, age, content, objection
from tests.worker_process import Inputs, Watch, Worker, apply_topics
from tests.worker_settings import settings_of

PARTITIONS: Final = 4
PAUSE_S: Final = 0.2
PREFIX: Final = "flood."
BAD: Final[dict[str, Callable[[str], Record]]] = {
    "objections": lambda user: objection(user_id=user, action="shout"),
    "account-ages": lambda user: age(user_id=user, observed_at="yesterday"),
    "content": lambda user: content(user_id=user, content_id=f"{user}.c", product="none"),
}


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--users", type=int, help="default: as many as records")
    parser.add_argument("--topic", choices=tuple(BAD), default="objections")
    parser.add_argument("--rate", type=float, help="records a second; default: all at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="objections-bench-") as name:
        folder = Path(name)
        with LocalKafka(folder / "kafka", c1_only=False) as kafka:
            apply_topics(kafka, PREFIX, partitions=PARTITIONS)
            with (
                Worker(kafka, PREFIX, folder / "state") as worker,
                Inputs(kafka, PREFIX, linger_ms=20) as inputs,
                Neighbours(kafka) as neighbours,
            ):
                worker.wait_ready()
                neighbours.wait_for(3)
                _flood(kafka, worker, inputs, neighbours, options)


def _flood(
    kafka: LocalKafka,
    worker: Worker,
    inputs: Inputs,
    neighbours: "Neighbours",
    options: argparse.Namespace,
) -> None:
    before_mib = _memory_mib(worker.pid, "VmRSS")
    users, begun_s = options.users or options.records, time.monotonic()
    neighbours.latencies_ms.clear()
    for number in range(options.records):
        if options.rate and (early_s := begun_s + number / options.rate - time.monotonic()) > 0:
            time.sleep(early_s)
        inputs.queue(options.topic, BAD[options.topic](f"flood-{number % users}"))
    inputs.flush()
    sent_s = time.monotonic() - begun_s
    while (done := _dead_letters(worker)) < options.records:
        if not worker.running:
            sys.exit(f"the worker ended with {worker.status()}; {worker.log_tail()}")
        print(f"{done:,.0f} done, {_memory_mib(worker.pid, 'VmRSS')} MiB", file=sys.stderr)
        time.sleep(PAUSE_S * 5)
    took_s = time.monotonic() - begun_s
    neighbours.wait_for(len(neighbours.latencies_ms) + 1)
    found = spread(neighbours.latencies_ms)
    with Watch(kafka, PREFIX) as watch:
        watch.wait_until_caught_up(workers=[worker])
    print(
        f"{options.records:,} bad records of {users:,} users in {options.topic}: "
        f"{options.records / took_s:,.0f}/s (sent in {sent_s:.1f} s, done in {took_s:.1f} s); "
        f"memory {before_mib} -> {_memory_mib(worker.pid, 'VmHWM')} MiB; "
        f"{found.count} neighbours' objections: p50 {found.p50_ms or 0:.0f} ms, "
        f"p99 {found.p99_ms or 0:.0f} ms, worst {found.worst_ms or 0:.0f} ms; "
        f"load {os.getloadavg()[0]:.1f}"
    )


def _dead_letters(worker: Worker) -> float:
    name = "objections_events_total"
    return sum(
        number
        for series, number in worker.metrics().items()
        if series.startswith(name) and 'outcome="dead_letter"' in series
    )


def _memory_mib(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{what}:"))


class Neighbours:
    """Users of all partitions, who object one after the other in a thread of its own."""

    def __init__(self, kafka: LocalKafka) -> None:
        self.latencies_ms: list[float] = []
        self._kafka = kafka
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Return when so many have their decisions."""
        while len(self.latencies_ms) < count:
            time.sleep(PAUSE_S)

    def _run(self) -> None:
        settings = settings_of(self._kafka, PREFIX)
        reader = Consumer(settings.kafka(group_id="none", isolation_level="read_committed"))
        topic = settings.topic("eligibility")
        reader.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        number = 0
        with Inputs(self._kafka, PREFIX, linger_ms=0) as inputs:
            while not self._over.is_set():
                user, number = f"neighbour-{number}", number + 1
                sent_s = time.monotonic()
                inputs.send(("objections", objection(user_id=user)))
                while not self._over.is_set():
                    found = reader.consume(1_000, 0.02)
                    if any(each.key() == user.encode() for each in found):
                        self.latencies_ms.append((time.monotonic() - sent_s) * 1_000)
                        break
                self._over.wait(PAUSE_S)
        reader.close()


if __name__ == "__main__":
    main()
