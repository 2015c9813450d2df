"""`objections bench peers`: this service and the same job in other engines, in one run."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streams.commands.bench_common import (
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
from streams.errors import CheckFailed, CommandError, Unreachable, UsageProblem

if TYPE_CHECKING:
    from streams.bench.latency import Latency, Load
    from streams.bench.peers import Place
    from streams.bench.throughput import Throughput
    from streams.commands.bench_common import Say

PARTS = ("throughput", "latency", "account")


class Options(NamedTuple):
    """What was asked for."""

    records: int
    peer_records: int
    repeats: int
    warmup_share: float
    rates: tuple[float, ...]
    seconds: float
    warmup_s: float
    account_items: int
    account_rate: float
    partitions: int
    seed: int
    parts: tuple[str, ...]


class Names(click.ParamType):
    """Names of a given list, several separated by commas."""

    name = "names"

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in str(value).split(",")))
        if not set(names) <= set(self._known):
            self.fail(f"{value!r}, expected some of {','.join(self._known)}", param, ctx)
        return names


@click.command("peers")
@click.option(
    "--peers",
    default="all",
    show_default=True,
    help="Which systems to run: ours,bare,kstreams,kstreams-eos,quix,quix-eos,faust; they need the "
    "source tree.  Of all, those that cannot be run here are left out.",
)
@click.option(
    "--parts",
    type=Names(PARTS),
    default=",".join(PARTS),
    show_default=True,
    help="Which measurements to make.",
)
@click.option(
    "--records",
    type=click.IntRange(min=100),
    default=1_000_000,
    show_default=True,
    help="Input records of a run as fast as it goes.",
)
@click.option(
    "--peer-records",
    type=click.IntRange(min=100),
    default=100_000,
    show_default=True,
    help="The same for the slow peers, faust, quix and quix-eos: the first so many.",
)
@click.option(
    "--warmup-share",
    type=click.FloatRange(0, 0.9),
    default=0.1,
    show_default=True,
    help="Share of the input that a system works off before the clock starts.",
)
@offered_options(rates="200,2000,10000", seconds=30.0, warmup=15.0)
@click.option(
    "--account-items",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Items of the account that objects in the middle of a run of its own.",
)
@click.option(
    "--account-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=500.0,
    show_default=True,
    help="Events of others offered per second meanwhile.",
)
@click.option("--seed", default=1, show_default=True, help="Of who objects.")
@repeats_option(3)
@kafka_options
def peers_command(
    bootstrap: str | None,
    peers: str,
    kafka_warmup: float,
    json_path: Path | None,
    warmup: float,
    **given: Any,
) -> None:
    """
    Run this service and the same job in other engines, on the bundled real activity.

    Faust, Quix Streams and Kafka Streams, with and without exactly once; and a bare loop without
    stored state or guarantees, as the floor.  The activity is repeated with fresh ids.  Throughput:
    a full input as fast as it goes.  Latency: at fixed rates.  Account: one with many items
    objects while others write.  Systems take turns, so that all meet the same machine.
    """
    options = Options(warmup_s=warmup, **given)
    check_warmup(options.warmup_s, options.seconds)
    check_psutil()
    from streams.bench import peers_report

    with progress() as say:
        names = available(peers, say)
        with running_kafka(bootstrap, options.partitions, kafka_warmup, say) as (address, folder):
            measuring = _Measuring(names, options, address, folder, say)
            if "throughput" in options.parts:
                measuring.throughput()
            if "latency" in options.parts:
                for rate in options.rates:
                    measuring.latency(rate)
            if "account" in options.parts:
                measuring.latency(options.account_rate, options.account_items)
    about = {
        **options._asdict(),
        "peers": names,
        "kafka_warmup_s": None if bootstrap else kafka_warmup,
        "bootstrap": bootstrap,
    }
    runs = (measuring.throughputs, measuring.latencies)
    print_all(
        peers_report.table(*runs),
        json_path,
        peers_report.as_json(about, *runs, measuring.failures),
    )
    _check(measuring)


def available(asked: str, say: "Say") -> tuple[str, ...]:
    """Return the systems to run; of all, those that cannot be run are named with the remedy."""
    from streams.bench.systems import NAMES, check_available

    def tell(text: str) -> None:
        say(text, "")

    if asked != "all":
        names = split_names(asked)
        check_available(names, tell)
        return names
    found = []
    for name in NAMES:
        try:
            check_available((name,), tell)
        except (UsageProblem, Unreachable) as problem:
            say("", f"{name} is left out: {problem}")
        else:
            found.append(name)
    return tuple(found)


class _Measuring:
    """The runs of all systems on one Kafka; a peer that fails is noted and the others go on."""

    def __init__(
        self, names: tuple[str, ...], options: Options, address: str, folder: Path, say: "Say"
    ) -> None:
        self.throughputs: list[Throughput] = []
        self.latencies: list[Latency] = []
        self.failures: list[str] = []
        self._names, self._options, self._say = names, options, say
        self._address, self._folder = address, folder

    def throughput(self) -> None:
        from streams.bench.activity import from_activity
        from streams.bench.peers import PEERS
        from streams.bench.throughput import measure
        from streams.bench.workload import expected

        options = self._options
        slow = {name for name, peer in PEERS.items() if peer.slow}
        least = min(options.records, options.peer_records)
        inputs = {}
        for count in {least if name in slow else options.records for name in self._names}:
            self._say(f"making {count:,} records", "")
            records = from_activity(count, options.seed)
            inputs[count] = (records, expected(records, int(time.time() * 1000)))
        for repeat in range(options.repeats):
            for name in self._names:
                label = f"{name}-{repeat + 1}"
                told = counted(self._say, repeat, options.repeats)
                given = inputs[least if name in slow else options.records]
                try:
                    with self._fresh_place(name) as place:
                        run = measure(name, place, *given, told, options.warmup_share)
                except CommandError as error:
                    self._failed(f"{label}: {error}")
                else:
                    self.throughputs.append(run)
                    self._say("", f"{label}: {run.events_per_s:,.0f} events/s")

    def latency(self, rate: float, account_items: int = 0) -> None:
        from streams.bench.activity import from_activity
        from streams.bench.latency import Load
        from streams.bench.workload import expected

        options = self._options
        records = from_activity(max(int(rate * options.seconds), 2), options.seed)
        load = Load(records, options.seed, rate, options.warmup_s, from_activity, account_items)
        allowed = expected(load.everything, int(time.time() * 1000))
        for repeat in range(options.repeats):
            for name in self._names:
                self._latency(name, load, allowed, repeat)

    def _latency(self, name: str, load: "Load", allowed: Any, repeat: int) -> None:
        from streams.bench.latency import measure

        what = "account-" if load.account_items else ""
        label = f"{name}-{what}{load.rate:g}-{repeat + 1}"
        told = counted(self._say, repeat, self._options.repeats)
        try:
            with self._fresh_place(name) as place:
                run = measure(name, place, load, allowed, told)
        except CommandError as error:
            self._failed(f"{label}: {error}")
            return
        self.latencies.append(run)
        p99_ms, purged_s = run.answers.p99_ms, run.account_purged_s
        shown = f"{label}: p99 " + ("-" if p99_ms is None else f"{p99_ms:,.1f} ms")
        if load.account_items:
            shown += ", account purged in " + ("-" if purged_s is None else f"{purged_s:,.2f} s")
        self._say("", shown + ("" if run.kept_up else ", did not keep up"))

    def _fresh_place(self, name: str) -> AbstractContextManager["Place"]:
        """Make topics; their prefix is short, as Quix puts five of it into one topic's name."""
        from streams.bench.run import fresh_place

        return fresh_place(self._address, self._options.partitions, self._folder, name)

    def _failed(self, message: str) -> None:
        self.failures.append(message)
        self._say("", f"FAILED {message}")


def _check(measuring: _Measuring) -> None:
    """Say whether all have come to the right end; raises CheckFailed if not."""
    ends = [(run.system, run.differences) for run in measuring.throughputs]
    ends += [(run.system, run.differences) for run in measuring.latencies]
    found = [*measuring.failures, *(f"{name}: {line}" for name, lines in ends for line in lines)]
    if found:
        raise CheckFailed("\n".join(["not every run came to the right end:", *found]))
    behind = [run for run in measuring.latencies if not run.finished]
    unfinished = [f"{run.system} at {run.rate:g}/s" for run in behind]
    if unfinished:
        click.echo(f"Not compared, as it did not come to an end: {', '.join(unfinished)}.")
    if len(unfinished) < len(ends):
        click.echo("What the finished runs allow in the end is what the pure core computes.")
