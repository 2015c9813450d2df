"""`objections bench faults`: does everything hold when everything fails?"""

import signal
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import click

from streams.commands.bench_common import print_all, progress, split_names
from streams.commands.common import read_settings
from streams.errors import CheckFailed, UsageProblem

DRY_RUN_FAULTS = 30


@click.command("faults")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="How long faults go on; the check comes after.",
)
@click.option("--seed", default=1, show_default=True, help="Of the faults and of the load.")
@click.option(
    "--rate",
    "rate_per_s",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    help="Records sent per second meanwhile.",
)
@click.option(
    "--brokers",
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="Of the Kafka that is started; some kinds take three.",
)
@click.option("--kinds", default="all", show_default=True, help="Kinds of faults, as --list names.")
@click.option(
    "--faults",
    "faults_n",
    type=click.IntRange(min=0),
    help="End after so many, if the minutes are not over before.",
)
@click.option("--list", "listing", is_flag=True, help="Tell the kinds of faults, and do nothing.")
@click.option("--dry-run", is_flag=True, help="Print the first faults of the seed, and do nothing.")
@click.option(
    "--bootstrap",
    metavar="HOST:PORT",
    help="Kafka to run on, which no harm is done to; else one is started.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for all logs and data, which stays.  [default: one that is removed at the end]",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result, with every violation, to this file.",
)
def faults_command(
    minutes: float,
    seed: int,
    rate_per_s: float,
    brokers: str,
    kinds: str,
    faults_n: int | None,
    listing: bool,
    dry_run: bool,
    bootstrap: str | None,
    keep: Path | None,
    json_path: Path | None,
) -> None:
    """
    Take workers, Kafka, network, clock and disk away under load, and prove the outputs.

    Starts two workers, and a Kafka of one or three brokers unless --bootstrap names one.  Faults
    come one after another, the same for the same seed; each begins when all is whole again.  What
    was published must in the end be what the pure core computes from the inputs; no epoch may have
    fallen, nothing may have been allowed without a decision, nothing been committed twice.  Exit
    status 1: something was; each violation is named.
    """
    from streams.bench.faults import plan

    brokers_n = int(brokers)
    if listing:
        for name, kind in plan.KINDS.items():
            takes = f" (takes --brokers {kind.brokers})" if kind.brokers > 1 else ""
            click.echo(f"{name:24} {kind.what}{takes}")
        return
    if bootstrap is not None and brokers_n > 1:
        message = f"--brokers {brokers} is of a Kafka that is started, but --bootstrap names one."
        raise UsageProblem(message)
    names, had = _kinds(kinds, brokers_n if bootstrap is None else 0)
    if dry_run:
        for fault in islice(plan.plan(seed, had, brokers_n), faults_n or DRY_RUN_FAULTS):
            click.echo(str(fault))
        return
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageProblem(f"--keep {keep} is not empty: a run needs a folder of its own.")
    from streams.bench.faults import report
    from streams.bench.faults.run import run

    # A terminal's Ctrl-C and a supervisor's SIGTERM mean the same: stop everything.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began_s: list[float] = []

    def go_on(fault: plan.Fault) -> bool:
        began_s[:] = began_s or [time.monotonic()]
        few = faults_n is None or fault.number <= faults_n
        return few and time.monotonic() - began_s[0] < minutes * 60

    with (
        progress() as say,
        tempfile.TemporaryDirectory(
            prefix="objections-faults-", ignore_cleanup_errors=True
        ) as folder,
    ):
        place = Path(folder) if keep is None else keep.absolute()
        address = None if bootstrap is None else read_settings(bootstrap).bootstrap
        result = run(
            place, address, brokers_n, seed, names, rate_per_s, go_on, lambda text: say("", text)
        )
    options = {
        "minutes": minutes,
        "seed": seed,
        "rate_per_s": rate_per_s,
        "brokers": brokers_n if bootstrap is None else None,
        "kinds": names,
        "bootstrap": bootstrap,
    }
    print_all(report.table(result), json_path, report.as_json(options, result))
    if result.violations:
        count = len(result.violations)
        raise CheckFailed(f"{count:,} violations with seed {seed}; they stand above.")
    click.echo("Nothing lost, nothing back, nobody in: what stands is what the inputs say.")


def _kinds(text: str, brokers: int) -> tuple[Sequence[str], Sequence[str]]:
    """
    Return the kinds that --kinds holds, and those of them that can be had.

    brokers: as `plan.lacking` has it.  Raises UsageProblem for one that was named and cannot be.
    """
    from streams.bench.faults.plan import KINDS, lacking

    names = tuple(KINDS) if text == "all" else split_names(text)
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        known = ", ".join(KINDS)
        raise UsageProblem(f"--kinds holds {', '.join(unknown)}, expected some of {known}")
    not_had = lacking(names, brokers)
    if not_had and text != "all":
        whys = "; ".join(f"{name}: {why}" for name, why in not_had.items())
        raise UsageProblem(f"--kinds holds what cannot be had so: {whys}")
    return names, [name for name in names if name not in not_had]
