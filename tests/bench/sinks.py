"""
How quickly a full store purges: `python -m tests.bench.sinks delta:/tmp/store`.

Fills an empty store, then purges items picked at random, which is the worst there is for files, in
batches; then locks an account of 100,000 items, and erases.  Times are those of `apply` alone; CPU
seconds stand beside them, as they tell what other work on the machine hides.
"""

import random
import statistics
import time
from collections.abc import Iterable
from itertools import islice

import click

from streams.sinks.sink import (
    TRAINING_CONTENT,
    TRAINING_USERS,
    Batch,
    Change,
    Place,
    Position,
    Sink,
)
from streams.sinks.urls import make_sink

PARTITIONS = 4
USERS = 20_000
PRODUCT = "instagram"
BIG = "user-big"
FILL_CHANGES = 50_000


@click.command()
@click.argument("url")
@click.option("--items", default=1_000_000, show_default=True)
@click.option("--batch", "sizes", multiple=True, default=(10_000, 50_000), show_default=True)
@click.option("--batches", default=5, show_default=True, help="Of each size.")
@click.option("--account", default=100_000, show_default=True, help="Items of the big account.")
def main(url: str, items: int, sizes: tuple[int, ...], batches: int, account: int) -> None:
    """Measure the sink at URL, which must be empty."""
    sink = make_sink(url)
    sink.open()
    users = [_user(f"user-{number:06d}", 1, number) for number in range(USERS)]
    wall_s, _ = _apply(sink, [*users, _user(BIG, 1, USERS)])
    names = iter(range(items))
    while part := [_item(number, 1, number) for number in islice(names, FILL_CHANGES)]:
        wall_s += _apply(sink, part)[0]
    click.echo(f"filled with {items:,} items: {items / wall_s:,.0f} items/s")
    left = random.Random(1).sample(range(items), items)
    for size in sizes:
        rates, cpu_rates = [], []
        for number in range(batches):
            picked, left = left[:size], left[size:]
            offset = items * (number + 2)
            purges = [_item(each, 2, offset + n, stands=False) for n, each in enumerate(picked)]
            wall_s, cpu_s = _apply(sink, purges)
            rates.append(size / wall_s)
            cpu_rates.append(size / cpu_s)
        click.echo(
            f"batches of {size:,}: {_told(rates)} purges/s; {_told(cpu_rates)} per CPU second"
        )
    big = [_item(items + n, 1, items * 20 + n, user=BIG) for n in range(account)]
    for start in range(0, account, FILL_CHANGES):
        _apply(sink, big[start : start + FILL_CHANGES])
    wall_s, cpu_s = _apply(sink, [_user(BIG, 2, USERS + 1, stands=False)])
    click.echo(f"an account of {account:,} items hidden in {wall_s:.2f} s ({cpu_s:.2f} s of CPU)")
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    sink.erase()
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    click.echo(f"erased in {wall_s:.1f} s ({cpu_s:.1f} s of CPU)")
    sink.close()


def _told(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


def _apply(sink: Sink, changes: Iterable[Change]) -> tuple[float, float]:
    """Apply *changes*; return the seconds it took, and of CPU."""
    listed = list(changes)
    reached: dict[Place, Position] = {}
    for each in listed:
        reached[Place(each.topic, each.partition)] = Position("topic-id", each.offset + 1, 2)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    sink.apply(Batch(listed, reached))
    return time.perf_counter() - began_s, time.process_time() - began_cpu_s


def _user(user: str, epoch: int, offset: int, *, stands: bool = True) -> Change:
    value = {"user_id": user, "product": PRODUCT, "epoch": epoch} if stands else None
    key = f"{PRODUCT}/{user}"
    return Change(TRAINING_USERS, _partition(user), offset, key, user, epoch, 0, value, 0)


def _item(
    number: int, epoch: int, offset: int, *, user: str | None = None, stands: bool = True
) -> Change:
    owner = user or f"user-{number % USERS:06d}"
    name = f"item-{number:012d}"
    value = {
        "content_id": name,
        "user_id": owner,
        "revision": 1,
        "product": PRODUCT,
        "kind": "post",
        "modality": "text",
        "language": "de",
        "created_at": f"2026-04-{1 + number % 28:02d}T09:{number % 60:02d}:00.{number % 1000:03d}Z",
        "epoch": epoch,
    }
    place = TRAINING_CONTENT, _partition(owner)
    return Change(*place, offset, name, owner, epoch, 1, value if stands else None, 0)


def _partition(user: str) -> int:
    return int(user[5:]) % PARTITIONS if user != BIG else 0


if __name__ == "__main__":
    main()
