"""
What an import costs the live traffic beside it, and how fast one goes alone.

    python tests/bench/importing.py --rows 1000000 --rate 500 --alone 60 --beside 600

Starts a Kafka and a worker of its own.  First, without a worker, objections are imported from CSV,
JSONL and Parquet, and account ages, notices and content from CSV, at full speed, each into topics
of its own.  Then live events are offered at RATE per second for ALONE + BESIDE seconds; after ALONE
seconds `objections import` brings in ROWS objections, at the pace it finds by itself (or OPTIONS,
as in `--options "--rate 2000"`).  Prints the latencies of live content and objections before and
during the import, from the time they are handed to the producer to their receipt by a
read_committed consumer, and the longest time between the import's rows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from streams.bench.latency import Spread, spread
from streams.bench.peers import Place
from streams.bench.produce import PacedProducer, preload
from streams.bench.run import START_TIMEOUT_S, fresh_place, is_quiet, wait_for_answers
from streams.bench.systems import System
from streams.bench.watch import Seen, Watcher
from streams.bench.workload import Record, answered_ids, make, probes
from streams.kafka.local import LocalKafka

PARTITIONS = 4
LIVE_SHARE = 10  # of the objections imported, one in so many is by an account that is live
COMMAND = [sys.executable, "-m", "streams.commands", "import"]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--alone", type=float, default=60.0)
    parser.add_argument("--beside", type=float, default=600.0)
    parser.add_argument("--options", default="")
    parser.add_argument("--skip-speed", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="objections-bench-") as name,
        LocalKafka(Path(name) / "kafka", c1_only=False) as kafka,
    ):
        folder = Path(name)
        files = _files(folder, options.rows)
        if not options.skip_speed:
            for path in (*files, *_other_files(folder, options.rows)):
                with fresh_place(kafka.bootstrap, PARTITIONS, folder, "speed") as place:
                    _speed(place, path)
        with fresh_place(kafka.bootstrap, PARTITIONS, folder, "beside") as place:
            _beside(place, files[0], options)


def _files(folder: Path, rows: int) -> list[Path]:
    users = [
        f"user-{number:07d}" if number % LIVE_SHARE == 0 else f"form-{number}"
        for number in range(rows)
    ]
    ids = [f"form-o-{number}" for number in range(rows)]
    csv, jsonl, parquet = (folder / f"objections.{each}" for each in ("csv", "jsonl", "parquet"))
    with csv.open("w", encoding="utf-8") as file:
        file.write("user_id,objection_id,action,occurred_at,products\n")
        file.writelines(
            f"{user},{each},filed,2026-04-15T09:00:00Z,facebook;instagram\n"
            for user, each in zip(users, ids, strict=True)
        )
    encoder = msgspec.json.Encoder()
    with jsonl.open("wb") as raw:
        for user, each in zip(users, ids, strict=True):
            row = {"user_id": user, "objection_id": each, "action": "filed", "locale": "de-DE"}
            raw.write(encoder.encode(row) + b"\n")
    table = pa.table({"user_id": users, "objection_id": ids, "action": ["filed"] * rows})
    pq.write_table(table, parquet)
    return [csv, jsonl, parquet]


def _other_files(folder: Path, rows: int) -> Iterator[Path]:
    """Make files of the other topics, with all their columns, one at a time."""
    at = "2026-04-15T09:00:00Z"
    kinds: list[tuple[str, str, Callable[[int], str]]] = [
        (
            "account-ages",
            "user_id,observed_at,birth_date,assurance,country",
            lambda n: f"user-{n},{at},{1950 + n % 50}-05-01,verified,DE",
        ),
        (
            "notices",
            "user_id,notice_id,delivered_at,channel",
            lambda n: f"user-{n},n-{n},{at},email",
        ),
        (
            "content",
            "user_id,content_id,revision,product,kind,visibility,modality,created_at,language",
            lambda n: f"user-{n // 10},c-{n},1,facebook,post,public,text,{at},de",
        ),
    ]
    for name, header, row in kinds:
        path = folder / f"{name}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write(header + "\n")
            file.writelines(row(number) + "\n" for number in range(rows))
        yield path


def _environ(place: Place) -> dict[str, str]:
    return os.environ | {
        "OBJECTIONS_BOOTSTRAP": place.bootstrap,
        "OBJECTIONS_TOPIC_PREFIX": place.prefix,
        "OBJECTIONS_GROUP": f"{place.prefix}objections",
    }


def _speed(place: Place, path: Path) -> None:
    before = os.times()
    done = subprocess.run(
        [*COMMAND, str(path), "--full-speed", "--restart", "--wait", "0"],
        env=_environ(place),
        capture_output=True,
        text=True,
        check=True,
    )
    after = os.times()
    busy_s = sum(after[2:4]) - sum(before[2:4])
    print(f"{done.stdout.strip()} Processor time of the command: {busy_s:.1f} s.", flush=True)


def _beside(place: Place, path: Path, options: argparse.Namespace) -> None:
    records = make(int(options.rate * (options.alone + options.beside)), 1)
    first = probes()
    with (
        Watcher(place.bootstrap, place.prefix, place.partitions) as watcher,
        PacedProducer(place.bootstrap, place.prefix, len(records), 1, options.rate) as producer,
        System("ours", place) as system,
    ):
        preload(place.bootstrap, place.prefix, first, lambda _done: None)
        wait_for_answers(system, watcher, len(first), START_TIMEOUT_S)
        producer.tell("begin")
        time.sleep(options.alone)
        begun_ns = time.time_ns()
        importing = subprocess.Popen(
            [*COMMAND, str(path), "--restart", "--wait", "0", *options.options.split()],
            env=_environ(place),
        )
        while importing.poll() is None and not producer.has_answered():
            system.check()
            time.sleep(0.1)
        ended_ns = time.time_ns()
        if importing.poll() is None:
            importing.terminate()
            print("the import was not finished when live events ended: raise --beside")
        importing.wait()
        sent_ns = producer.finish() if producer.has_answered() else _rest(producer)
        wanted = len(answered_ids(records)) + len(first)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while watcher.answered < wanted or not is_quiet(watcher):
            if time.monotonic() > deadline_s:
                break
            time.sleep(0.1)
        seen = watcher.finish()
    print(f"import: {(ended_ns - begun_ns) / 1e9:.1f} s")
    for name, first_ns, last_ns in (
        ("alone", sent_ns[0] + int(min(10.0, options.alone / 3) * 1e9), begun_ns),
        ("beside the import", begun_ns, ended_ns),
        ("after it", ended_ns + 5 * 10**9, sent_ns[-1]),
    ):
        _print(name, records, sent_ns, seen, first_ns, last_ns)


def _rest(producer: PacedProducer) -> "array[int]":
    while not producer.has_answered():
        time.sleep(0.1)
    return producer.finish()


def _print(
    name: str,
    records: list[Record],
    sent_ns: "array[int]",
    seen: Seen,
    first_ns: int,
    last_ns: int,
) -> None:
    for topic, heard_ns in (("content", seen.answered_ns), ("objections", seen.decided_ns)):
        measured = [
            (heard_ns[record.id] - at_ns) / 1e6
            for record, at_ns in zip(records, sent_ns, strict=True)
            if record.topic == topic and first_ns <= at_ns < last_ns and record.id in heard_ns
        ]
        print(f"{name:18} {topic:11} {_text(spread(measured))}", flush=True)


def _text(found: Spread) -> str:
    if found.p50_ms is None or found.p99_ms is None or found.worst_ms is None:
        return "nothing"
    return (
        f"{found.count:8,} events, p50 {found.p50_ms:6.0f} ms, p99 {found.p99_ms:6.0f} ms, "
        f"worst {found.worst_ms:6.0f} ms"
    )


if __name__ == "__main__":
    main()
