"""`objections bench`: this service and peers in one run on one Kafka; and data stores."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from streams.commands.bench_common import (
    Command,
    check,
    check_psutil,
    check_warmup,
    counted,
    kafka_options,
    offered_options,
    print_all,
    progress,
    repeats_option,
    running_kafka,
    split_names,
)
from streams.commands.bench_faults import faults_command
from streams.commands.bench_peers import peers_command
from streams.commands.bench_size import size_command
from streams.errors import UsageProblem


@click.group()
def bench() -> None:
    """
    Measure throughput and latency, beside others that do the same job; and data stores.

    Systems run one after the other on one Kafka, which is started for it unless --bootstrap names
    one; its topics are made under prefixes of their own and deleted afterwards.  What both allow in
    the end must be what the pure core computes from the input: exit status 1 if it is not.
    """


def _shared_options(command: Command) -> Command:
    command = kafka_options(command)
    for option in (
        click.option("--seed", default=1, show_default=True, help="Of the input made up."),
        click.option(
            "--peers",
            default="ours,faust",
            show_default=True,
            help="Which systems to run: ours,bare,kstreams,kstreams-eos,quix,quix-eos,faust; all "
            "but ours need the source tree.",
        ),
    ):
        command = option(command)
    return command


@bench.command()
@click.option(
    "--records",
    type=click.IntRange(min=100),
    default=100_000,
    show_default=True,
    help="Input records of a run.",
)
@click.option(
    "--peer-records",
    type=click.IntRange(min=100),
    help="Input records for peers other than ours: the first so many of the same input, where a "
    "slow peer would take long.  [default: as --records]",
)
@repeats_option(3)
@_shared_options
def throughput(
    bootstrap: str | None,
    records: int,
    peer_records: int | None,
    repeats: int,
    partitions: int,
    peers: str,
    seed: int,
    kafka_warmup: float,
    json_path: Path | None,
) -> None:
    """Work off a full input as fast as it goes: events/s, CPU per event, memory."""
    names = _names(peers)
    from streams.bench import report
    from streams.bench.run import fresh_place
    from streams.bench.throughput import measure
    from streams.bench.workload import expected, make

    inputs = {}
    for name in names:
        count = records if name == "ours" else peer_records or records
        workload = make(count, seed)
        inputs[name] = (workload, expected(workload, int(time.time() * 1000)))
    runs = []
    with (
        progress() as say,
        running_kafka(bootstrap, partitions, kafka_warmup, say) as (address, folder),
    ):
        for repeat in range(repeats):
            for name in names:
                label = f"{name}-{repeat + 1}"
                with fresh_place(address, partitions, folder, label) as place:
                    run = measure(name, place, *inputs[name], counted(say, repeat, repeats))
                runs.append(run)
                say("", f"{label}: {run.events_per_s:,.0f} events/s")
    options = {
        "records": records,
        "peer_records": peer_records or records,
        "repeats": repeats,
        "partitions": partitions,
        "peers": names,
        "seed": seed,
        "kafka_warmup_s": None if bootstrap else kafka_warmup,
        "bootstrap": bootstrap,
    }
    print_all(report.throughput_table(runs), json_path, report.as_json("throughput", options, runs))
    check({f"{run.system}": run.differences for run in runs})


@bench.command()
@offered_options(rates="200,2000", seconds=25.0, warmup=10.0)
@repeats_option(1)
@_shared_options
def latency(
    bootstrap: str | None,
    rates: tuple[float, ...],
    seconds: float,
    warmup: float,
    repeats: int,
    partitions: int,
    peers: str,
    seed: int,
    kafka_warmup: float,
    json_path: Path | None,
) -> None:
    """Offer records at fixed rates: how long each waits for its answer, p50, p99, worst."""
    names = _names(peers)
    from streams.bench import report
    from streams.bench.latency import Load, measure
    from streams.bench.run import fresh_place
    from streams.bench.workload import expected, make

    check_warmup(warmup, seconds)
    runs = []
    with (
        progress() as say,
        running_kafka(bootstrap, partitions, kafka_warmup, say) as (address, folder),
    ):
        for rate in rates:
            workload = make(max(int(rate * seconds), 2), seed)
            allowed = expected(workload, int(time.time() * 1000))
            load = Load(workload, seed, rate, warmup)
            for repeat in range(repeats):
                for name in names:
                    label = f"{name}-{rate:g}-{repeat + 1}"
                    with fresh_place(address, partitions, folder, label) as place:
                        run = measure(name, place, load, allowed, counted(say, repeat, repeats))
                    runs.append(run)
                    p99_ms = run.answers.p99_ms
                    shown = "-" if p99_ms is None else f"{p99_ms:,.1f} ms"
                    say("", f"{name} at {rate:,.0f}/s: p99 {shown}")
    options = {
        "rates": rates,
        "seconds": seconds,
        "warmup_s": warmup,
        "repeats": repeats,
        "partitions": partitions,
        "peers": names,
        "seed": seed,
        "kafka_warmup_s": None if bootstrap else kafka_warmup,
        "bootstrap": bootstrap,
    }
    print_all(report.latency_table(runs), json_path, report.as_json("latency", options, runs))
    unfinished = [f"{run.system} at {run.rate:g}/s" for run in runs if not run.finished]
    check({f"{run.system} at {run.rate:g}/s": run.differences for run in runs}, unfinished)


class Sink(click.ParamType):
    """NAME=URL."""

    name = "sink"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, found, url = str(value).partition("=")
        if not (name and found and url):
            self.fail(f"{value!r}, expected NAME=URL as in redis=redis://[::1]:6379/0", param, ctx)
        return name, url


@bench.command()
@click.option(
    "--sink",
    "sinks",
    type=Sink(),
    multiple=True,
    metavar="NAME=URL",
    help="An empty store to measure, as `objections subscribe` takes it; more than once for more.  "
    "[default: a Redis and a PostgreSQL, started for it]",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=500.0,
    show_default=True,
    help="Objections per second.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="How long people object.",
)
@click.option(
    "--items",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Items of each account.",
)
@click.option(
    "--account-items",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Items of one account that objects last.",
)
@kafka_options
def stores(
    bootstrap: str | None,
    sinks: tuple[tuple[str, str], ...],
    rate: float,
    seconds: float,
    items: int,
    account_items: int,
    partitions: int,
    kafka_warmup: float,
    json_path: Path | None,
) -> None:
    """
    How long from an objection to the moment a data store has hidden what it covers.

    One store after the other, each with a worker and a subscriber of its own.
    """
    from streams.bench import report
    from streams.bench.run import fresh_place
    from streams.bench.stores import Load, measure

    check_psutil()
    load = Load(rate, seconds, items, account_items)
    with (
        progress() as say,
        running_kafka(bootstrap, partitions, kafka_warmup, say) as (address, folder),
        _stores(dict(sinks), folder) as urls,
    ):
        runs = []
        for number, (name, url) in enumerate(urls.items()):
            with fresh_place(address, partitions, folder, name) as place:
                runs.append(measure(place, load, name, url, counted(say, number, len(urls))))
            say("", f"{name}: {load.users} objections hidden")
    options = {
        **load._asdict(),
        "sinks": sorted(urls),
        "partitions": partitions,
        "kafka_warmup_s": None if bootstrap else kafka_warmup,
        "bootstrap": bootstrap,
    }
    print_all(report.stores_table(runs), json_path, report.stores_as_json(options, runs))


@contextmanager
def _stores(given: dict[str, str], folder: Path) -> Iterator[dict[str, str]]:
    """Return the URLs of stores by their names; where none is given they are started."""
    if given:
        yield given
        return
    if find_spec("redis") is None or find_spec("psycopg") is None:
        raise UsageProblem(
            "the clients of Redis and PostgreSQL are not installed: "
            "pip install 'objection-streams[redis,postgres]', or name other stores with --sink."
        )
    from streams.testing.servers import Absent, postgres_server, redis_server

    try:
        with (
            redis_server(folder / "redis", "--appendonly", "yes") as redis,
            postgres_server() as postgres,
        ):
            yield {"redis": redis.url, "postgres": postgres.url}
    except Absent as absent:
        raise UsageProblem(f"{absent}; or name other stores with --sink.") from absent


def _names(peers: str) -> tuple[str, ...]:
    """Return the systems to run; raises UsageProblem where one cannot be run or measured."""
    check_psutil()
    from streams.bench.systems import check_available

    names = split_names(peers)
    check_available(names)
    return names


bench.add_command(faults_command)
bench.add_command(peers_command)
bench.add_command(size_command)
