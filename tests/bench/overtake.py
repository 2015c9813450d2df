"""
How soon an objection is answered while content is worked off as fast as it goes.

    python tests/bench/overtake.py --records 200000 --rate 20

Fills the inputs on a Kafka of its own, starts a worker, and files objections, of accounts at
random, at RATE a second for as long as there is a backlog of content.  A latency is the time at
which a read_committed consumer in a process of its own gets the decision, whose transaction has
the account's tombstones too, minus the time just before the objection was handed to the producer.
OBJECTIONS_ variables that tune a worker are passed on.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from streams.bench.latency import spread
from streams.bench.peers import Place
from streams.bench.produce import preload
from streams.bench.run import fresh_place, wait_for_answers
from streams.bench.systems import System
from streams.bench.watch import Watcher
from streams.bench.workload import Record, answered_ids, make
from streams.kafka.local import LocalKafka

START_TIMEOUT_S = 120.0
SETTLE_S = 1.0  # the first objections would meet a worker that is still starting
SETTLED_ANSWERS = 0.95  # of all: then the backlog is as good as gone


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--bootstrap", help="a Kafka that is there, in place of one of its own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="objections-bench-") as name:
        folder = Path(name)
        if options.bootstrap:
            _measure(options.bootstrap, folder, options)
            return
        with LocalKafka(folder / "kafka", c1_only=False) as kafka:
            _measure(kafka.bootstrap, folder, options)


def _measure(bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
    records = [each for each in make(options.records, 1) if each.topic != "objections"]
    users = [each.key for each in records if each.topic == "notices"]
    wanted = len(answered_ids(records))
    with fresh_place(bootstrap, options.partitions, folder, "overtake") as place:
        preload(bootstrap, place.prefix, records, lambda _: None)
        with (
            Watcher(bootstrap, place.prefix, place.partitions) as watcher,
            System("ours", place) as system,
        ):
            wait_for_answers(system, watcher, 1, START_TIMEOUT_S)
            time.sleep(SETTLE_S)
            begun_s, before = time.monotonic(), watcher.answered
            sent_ns = _object(place, users, options.rate, watcher, int(wanted * SETTLED_ANSWERS))
            per_s = (watcher.answered - before) / (time.monotonic() - begun_s)
            wait_for_answers(system, watcher, wanted, START_TIMEOUT_S)
            time.sleep(SETTLE_S)
            decided_ns = watcher.finish().decided_ns
    found = spread(
        (decided_ns[each] - at) / 1e6 for each, at in sent_ns.items() if each in decided_ns
    )
    print(
        f"{per_s:,.0f} items answered/s; {found.count} of {len(sent_ns)} objections decided: "
        f"p50 {found.p50_ms or 0:.0f} ms, p99 {found.p99_ms or 0:.0f} ms, "
        f"worst {found.worst_ms or 0:.0f} ms; load {os.getloadavg()[0]:.1f}"
    )
    sys.exit(0 if found.count else 1)


def _object(
    place: Place, users: list[bytes], rate: float, watcher: Watcher, until: int
) -> dict[str, int]:
    """File objections until so many items are answered; return when each was sent, in ns."""
    producer = Producer({"bootstrap.servers": place.bootstrap, "linger.ms": 0, "acks": "all"})
    rng = random.Random(2)
    sent_ns: dict[str, int] = {}
    next_s = time.monotonic()
    while watcher.answered < until:
        user, objection_id = rng.choice(users), f"overtakes-{len(sent_ns)}"
        fields = {"user_id": user.decode(), "objection_id": objection_id, "action": "filed"}
        record = Record("objections", user, msgspec.json.encode(fields), objection_id)
        sent_ns[objection_id] = time.time_ns()
        producer.produce(place.prefix + record.topic, record.value, record.key)
        producer.poll(0)
        next_s += 1 / rate
        time.sleep(max(next_s - time.monotonic(), 0))
    producer.flush()
    return sent_ns


if __name__ == "__main__":
    main()
