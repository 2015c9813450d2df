"""
Runs -> medians, spreads, ratios; as tables for people and as JSON for machines.

A ratio is ours by the peer's, of medians.
"""

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any, Final, NamedTuple

from streams.bench.latency import Latency, Spread
from streams.bench.stores import StoreRun
from streams.bench.throughput import Throughput

OURS: Final = "ours"
PACKAGES: Final = ("objection-streams", "faust-streaming", "confluent-kafka", "rocksdict")

THROUGHPUT_MEANS: Final = """\
events/s: all input records, from the system's first committed output to its last, as a
  read_committed consumer receives them; starting up does not count.
CPU: user and system time of the system's own processes in that time; Kafka's is not in it.
memory: resident, of the same processes, the highest seen."""

LATENCY_MEANS: Final = """\
latency: from just before a record is handed to the producer to the receipt of its first answer
  by a read_committed consumer; each in a process of its own, on one machine and clock.
answers: of content records.  objections: of those that changed a decision, to that decision.
kept up: all were answered, and those at the end waited no longer than those at the beginning;
  if not, latency only says how far the system fell behind."""

STORES_MEANS: Final = """\
latency: from the broker's time stamp of the objection, by the service's receipts.
published: the transaction with the last tombstone it caused is committed.
hidden: the store has acknowledged that it has applied all of them.
the account: the one with many items, which objects last."""


class Middle(NamedTuple):
    """The median of several runs, the least and the greatest."""

    median: float
    least: float
    greatest: float


def middle(values: Sequence[float | None]) -> Middle | None:
    """Return the middle of what was measured; None where nothing was."""
    found = [value for value in values if value is not None]
    return Middle(median(found), min(found), max(found)) if found else None


Figures = dict[str, Middle | None]

_THROUGHPUT: Final[dict[str, Callable[[Throughput], float]]] = {
    "events_per_s": lambda run: run.events_per_s,
    "cpu_us_per_event": lambda run: run.cpu_us_per_event,
    "cpu_cores": lambda run: run.cpu_cores,
    "resident_mib": lambda run: run.resident_mib,
}
_LATENCY: Final[dict[str, Callable[[Latency], float | None]]] = {
    "p50_ms": lambda run: run.answers.p50_ms,
    "p99_ms": lambda run: run.answers.p99_ms,
    "p999_ms": lambda run: run.answers.p999_ms,
    "worst_ms": lambda run: run.answers.worst_ms,
    "objections_p50_ms": lambda run: run.objections.p50_ms,
    "objections_p99_ms": lambda run: run.objections.p99_ms,
    "objections_worst_ms": lambda run: run.objections.worst_ms,
    "cpu_us_per_event": lambda run: run.cpu_us_per_event,
    "resident_mib": lambda run: run.resident_mib,
}


def throughput_summary(runs: Sequence[Throughput]) -> dict[str, Figures]:
    """Return each system's figures over its runs."""
    return {
        name: {
            figure: middle([read(run) for run in runs if run.system == name])
            for figure, read in _THROUGHPUT.items()
        }
        for name in _names(runs)
    }


def latency_summary(runs: Sequence[Latency], rate: float) -> dict[str, Figures]:
    """Return each system's figures at *rate* over its runs."""
    at_rate = [run for run in runs if run.rate == rate]
    return {
        name: {
            figure: middle([read(run) for run in at_rate if run.system == name])
            for figure, read in _LATENCY.items()
        }
        for name in _names(at_rate)
    }


def ratios(summary: dict[str, Figures]) -> dict[str, dict[str, float]]:
    """Return ours by the peer's, for each peer and figure that both have."""
    ours = summary.get(OURS, {})
    found: dict[str, dict[str, float]] = {}
    for name, theirs in summary.items():
        if name == OURS or not ours:
            continue
        found[name] = {
            figure: mine.median / other.median
            for figure, mine in ours.items()
            if mine is not None and (other := theirs[figure]) is not None and other.median
        }
    return found


def throughput_table(runs: Sequence[Throughput]) -> list[str]:
    """Return the lines to print."""
    summary = throughput_summary(runs)
    lines = [f"{'':<8}{'events/s':>28}{'CPU us/event':>28}{'cores':>7}{'memory MiB':>12}"]
    for name, figures in summary.items():
        lines.append(
            f"{name:<8}{_shown(figures['events_per_s'], 0):>28}"
            f"{_shown(figures['cpu_us_per_event'], 1):>28}"
            f"{_median(figures['cpu_cores'], 2):>7}{_median(figures['resident_mib'], 0):>12}"
        )
    for name, found in ratios(summary).items():
        lines.append(
            f"ours / {name}: events/s {found['events_per_s']:.1f}x, "
            f"CPU per event {found['cpu_us_per_event']:.3f}x, "
            f"memory {found['resident_mib']:.2f}x"
        )
    return [*lines, stolen(runs), "", *THROUGHPUT_MEANS.splitlines()]


def latency_table(runs: Sequence[Latency]) -> list[str]:
    """Return the lines to print."""
    lines = [
        f"{'rate/s':>8}  {'':<8}{'p50 ms':>28}{'p99 ms':>28}{'worst ms':>10}"
        f"{'objections p50/p99 ms':>23}{'CPU us/event':>14}  kept up"
    ]
    for rate in sorted({run.rate for run in runs}):
        summary = latency_summary(runs, rate)
        for name, figures in summary.items():
            lines.append(
                f"{rate:>8,.0f}  {name:<8}{_latency_row(figures)}  {_kept(runs, rate, name)}"
            )
        for name, found in ratios(summary).items():
            shown = ", ".join(
                f"{label} {found[figure]:.3f}x"
                for label, figure in (("p50", "p50_ms"), ("p99", "p99_ms"), ("worst", "worst_ms"))
                if figure in found
            )
            lines.append(f"{'':>8}  ours / {name}: {shown}")
    return [*lines, stolen(runs), "", *LATENCY_MEANS.splitlines()]


def stolen(runs: Sequence[Throughput] | Sequence[Latency]) -> str:
    """Return the line that tells what the figures are worth on a machine that has neighbours."""
    found = middle([run.stolen_share * 100 for run in runs])
    return f"stolen by others on this machine's host: {_shown(found, 1)} % of its processor time"


def stores_as_json(options: dict[str, Any], runs: Sequence[StoreRun]) -> dict[str, Any]:
    """Return the whole measurement of data stores as plain data for `msgspec.json.encode`."""
    return {**about("stores", options), "runs": list(runs)}


def about(what: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, and where."""
    return {
        "measurement": what,
        "options": options,
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
    }


def as_json(
    what: str,
    options: dict[str, Any],
    runs: Sequence[Throughput] | Sequence[Latency],
) -> dict[str, Any]:
    """Return the whole measurement as plain data for `msgspec.json.encode`."""
    content = {
        **about(what, options),
        "ok": not any(run.differences for run in runs),
        "runs": list(runs),
    }
    throughputs = [run for run in runs if isinstance(run, Throughput)]
    latencies = [run for run in runs if isinstance(run, Latency)]
    if throughputs:
        summary = throughput_summary(throughputs)
        content["summary"] = plain(summary)
        content["ratios"] = ratios(summary)
    else:
        by_rate = {run.rate: latency_summary(latencies, run.rate) for run in latencies}
        content["summary"] = {f"{rate:g}": plain(found) for rate, found in by_rate.items()}
        content["ratios"] = {f"{rate:g}": ratios(found) for rate, found in by_rate.items()}
    return content


def plain(summary: dict[str, Figures]) -> dict[str, dict[str, dict[str, float] | None]]:
    """Return *summary* as plain data."""
    return {
        name: {figure: found._asdict() if found else None for figure, found in figures.items()}
        for name, figures in summary.items()
    }


def _names(runs: Sequence[Throughput] | Sequence[Latency]) -> list[str]:
    return list(dict.fromkeys(run.system for run in runs))


def stores_table(runs: Sequence[StoreRun]) -> list[str]:
    """Return the lines to print."""
    lines = []
    for run in runs:
        lines += [
            f"{run.store:<24}{'p50 ms':>12}{'p99 ms':>12}{'worst ms':>12}{'the account s':>15}",
            f"{_spread_line('  published', run.published)}{run.account_published_s:>15.2f}",
            f"{_spread_line('  hidden', run.hidden)}{run.account_hidden_s:>15.2f}",
        ]
    return [*lines, "", STORES_MEANS]


def _spread_line(what: str, found: Spread) -> str:
    values = (found.p50_ms, found.p99_ms, found.worst_ms)
    return f"{what:<24}" + "".join(f"{'-' if x is None else format(x, ',.0f'):>12}" for x in values)


def _shown(figure: Middle | None, digits: int) -> str:
    if figure is None:
        return "-"
    if figure.least == figure.greatest:
        return f"{figure.median:,.{digits}f}"
    return f"{figure.median:,.{digits}f} ({figure.least:,.{digits}f}-{figure.greatest:,.{digits}f})"


def _median(figure: Middle | None, digits: int) -> str:
    return "-" if figure is None else f"{figure.median:,.{digits}f}"


def _latency_row(figures: Figures) -> str:
    objections = "/".join(
        _median(figures[name], 1) for name in ("objections_p50_ms", "objections_p99_ms")
    )
    worst = figures["worst_ms"]
    return (
        f"{_shown(figures['p50_ms'], 1):>28}{_shown(figures['p99_ms'], 1):>28}"
        f"{'-' if worst is None else f'{worst.greatest:,.0f}':>10}{objections:>23}"
        f"{_median(figures['cpu_us_per_event'], 1):>14}"
    )


def _kept(runs: Sequence[Latency], rate: float, name: str) -> str:
    found = [run for run in runs if run.rate == rate and run.system == name]
    behind = [run for run in found if not run.kept_up]
    if not behind:
        return "yes"
    growth_ms = max(run.growth_ms for run in behind)
    if all(run.finished for run in behind):
        return f"DID NOT KEEP UP (waiting grew by {growth_ms:,.0f} ms)"
    return "DID NOT KEEP UP (never answered everything)"
