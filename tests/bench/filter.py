"""
How fast an index is read from Kafka, and a manifest filtered by it.

    python tests/bench/filter.py --items 1000000 --rows 1000000 --repeats 5

Starts a Kafka of its own, writes `training-users` and `training-content` as the worker does (values
and headers alike, in transactions), then measures in this process, each step REPEATS times: reading
the index from the beginning, loading a stored one, and filtering manifests of the same rows as
Parquet, JSONL and CSV: from the file that is there to the finished, flushed data set with its
SHA-256 and positions.  A third of the accounts and a tenth of the items are purged, a tenth of the
rows are unknown.  Prints the median and the range of what the clock says, and the median of the
processor time that this process took (all threads), which a loaded machine disturbs less.
"""

import argparse
import csv
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer

from streams.core.reasons import PRODUCTS
from streams.core.times import rfc3339
from streams.kafka import admin
from streams.kafka.local import LocalKafka
from streams.settings import Settings
from streams.training import cache, filtering
from streams.training.items import AllowedItems
from streams.training.manifests import sources
from streams.training.positions import beside

T = TypeVar("T")

ITEMS_PER_ACCOUNT = 50
TRANSACTION_RECORDS = 5_000
TEXT = "The quick brown fox jumps over the lazy dog, and objects to being trained on. " * 2


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="objections-bench-") as name,
        LocalKafka(Path(name) / "kafka", c1_only=False) as kafka,
    ):
        folder = Path(name)
        settings = Settings(bootstrap=kafka.bootstrap)
        admin.apply(admin.connect(settings), settings, partitions=options.partitions)
        _say(f"writing {options.items:,} items")
        _fill(settings, options.items, options.partitions)
        _say(f"writing manifests of {options.rows:,} rows")
        manifests = _manifests(folder, options.rows, options.items)
        _measure(settings, folder, manifests, options.repeats, options.rows)


def _measure(
    settings: Settings, folder: Path, manifests: list[Path], repeats: int, rows: int
) -> None:
    items = AllowedItems.read(settings)
    records = items.built.records
    _line("index from the beginning", "records/s", records, repeats, lambda: _read(settings, None))
    store = folder / "cache"
    AllowedItems.read(settings, cache_folder=store)
    known = len(items.index.items)
    _line("index from a cache", "items/s", known, repeats, lambda: _read(settings, store))
    _line("index in memory to disk", "items/s", known, repeats, lambda: _save(store, items))
    for manifest in manifests:
        out = folder / f"out-{manifest.name}"
        plan = filtering.Plan(
            sources([manifest], None, None), out, beside(out), "content_id", True, None, None
        )
        size_mb = manifest.stat().st_size / 1e6
        name = f"filter {manifest.name} ({size_mb:.0f} MB)"
        done = _line(name, "rows/s", rows, repeats, partial(filtering.run, plan, items))
        _say(str(done.rows))
    print(f"{known:,} items, {len(items.index.accounts):,} accounts in the index")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process {peak_mb:,.0f} MB, all of the above included")


def _read(settings: Settings, store: Path | None) -> None:
    AllowedItems.read(settings, cache_folder=store)


def _save(store: Path, items: AllowedItems) -> None:
    cache.save(store, cache.Stored(items.index, items.positions))


def _line(name: str, unit: str, count: int, repeats: int, step: Callable[[], T]) -> T:
    took_s, busy_s = [], []
    for _ in range(repeats):
        begun_s, begun_busy_s = time.perf_counter(), time.process_time()
        found = step()
        took_s.append(time.perf_counter() - begun_s)
        busy_s.append(time.process_time() - begun_busy_s)
    rates = [count / each for each in took_s]
    print(
        f"{name:42} {statistics.median(rates):12,.0f} {unit:10} "
        f"({min(rates):,.0f}-{max(rates):,.0f}; {repeats} runs; "
        f"{statistics.median(busy_s) / count * 1e6:.2f} µs of processor time each)",
        flush=True,
    )
    return found


def _fill(settings: Settings, items: int, partitions: int) -> None:
    """Write as the worker would have: accounts, items, then some purges of both."""
    options = settings.kafka(transactional_id="bench", linger_ms=20)
    options |= {"log_level": 3, "queue.buffering.max.messages": 1_000_000}
    producer = Producer(options)
    producer.init_transactions(30)
    producer.begin_transaction()
    for number, (topic, account, key, value) in enumerate(_records(items)):
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", "1.0"),
            ("ce_source", "objections"),
            ("ce_time", "2026-04-15T09:00:00.123Z"),
            ("ce_id", f"{topic}/{key}/4/3/record"),
            ("ce_type", "content.allowed"),
            ("ce_subject", f"user-{account}"),
            ("objections_epoch", "4"),
            ("objections_received_at", "1776243600000"),
            ("objections_revision", "3"),
        ]
        producer.produce(topic, value, key, partition=account % partitions, headers=headers)
        if number % TRANSACTION_RECORDS == TRANSACTION_RECORDS - 1:
            producer.commit_transaction(30)
            producer.begin_transaction()
    producer.commit_transaction(30)


def _records(items: int) -> Iterator[tuple[str, int, str, bytes | None]]:
    accounts = -(-items // ITEMS_PER_ACCOUNT)
    for account in range(accounts):
        key = f"{_product(account)}/user-{account}"
        yield "training-users", account, key, b'{"user_id": "u", "epoch": 4}'
    for number in range(items):
        account = number // ITEMS_PER_ACCOUNT
        value = {
            "content_id": _content_id(number),
            "user_id": f"user-{account}",
            "revision": 3,
            "product": _product(account),
            "kind": "post",
            "modality": "image",
            "language": "gsw-CH",
            "created_at": rfc3339(1_776_243_600_000),
            "epoch": 4,
        }
        yield "training-content", account, _content_id(number), msgspec.json.encode(value)
    for account in range(0, accounts, 3):
        yield "training-users", account, f"{_product(account)}/user-{account}", None
    for number in range(0, items, 10):
        yield "training-content", number // ITEMS_PER_ACCOUNT, _content_id(number), None


def _product(account: int) -> str:
    return PRODUCTS[account % len(PRODUCTS)]


def _content_id(number: int) -> str:
    return f"c-{number * 7919}"


def _manifests(folder: Path, rows: int, items: int) -> list[Path]:
    chosen = random.Random(5)
    ids = [_content_id(chosen.randrange(int(items / 0.9))) for _ in range(rows)]
    labels = [chosen.randrange(1000) for _ in range(rows)]
    texts = [TEXT[label % 40 :] for label in labels]
    table = pa.table({"content_id": ids, "label": labels, "text": texts})
    pq.write_table(table, folder / "rows.parquet", row_group_size=200_000, compression="zstd")
    with (folder / "rows.jsonl").open("wb") as file:
        file.write(msgspec.json.Encoder().encode_lines(table.to_pylist()))
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as text_file:
        writer = csv.writer(text_file)
        writer.writerow(["content_id", "label", "text"])
        writer.writerows(zip(ids, labels, texts, strict=True))
    return [folder / f"rows.{each}" for each in ("parquet", "jsonl", "csv")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
