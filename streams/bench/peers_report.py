"""
Runs of this service and its peers -> tables with ratios, and JSON.

A ratio is ours by the peer's, of medians.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from streams.bench import report
from streams.bench.latency import Latency
from streams.bench.peers import PEERS
from streams.bench.report import Figures, Middle
from streams.bench.throughput import Throughput

Ratios = dict[str, dict[str, float]]

MEANS: Final = """\
events/s: input records of the real activity, worked off as fast as it goes, from the end of the
  warm-up to the last output that a read_committed consumer receives; CPU of the system's own
  processes in that time, memory the highest seen.
p50, p99, p99.9: from just before a content record is handed to the producer to the receipt of its
  answer by a read_committed consumer in a process of its own.
account: from an objection to the receipt of the last tombstone of the account's items, while others
  write; the percentiles beside it are those of the others in the same run.
(a - b): least and greatest of the runs.  x: ours by the peer's, of medians."""

_ACCOUNT: Final[dict[str, Callable[[Latency], float | None]]] = {
    "account_purged_s": lambda run: run.account_purged_s
}


def table(throughputs: Sequence[Throughput], latencies: Sequence[Latency]) -> list[str]:
    """Return the lines to print."""
    lines = _throughput_lines(throughputs) if throughputs else []
    for rate, items in _loads(latencies):
        lines += _latency_lines(latencies, rate, items)
    return [*lines, *MEANS.splitlines()]


def as_json(
    options: dict[str, Any],
    throughputs: Sequence[Throughput],
    latencies: Sequence[Latency],
    failures: Sequence[str],
) -> dict[str, Any]:
    """Return the whole measurement as plain data for `msgspec.json.encode`."""
    content = {
        **report.about("peers", options),
        "ok": not failures
        and not any(run.differences for run in throughputs)
        and not any(run.differences for run in latencies),
        "failures": list(failures),
    }
    if throughputs:
        summary = report.throughput_summary(throughputs)
        content["throughput"] = {
            "runs": list(throughputs),
            "summary": report.plain(summary),
            "ratios": report.ratios(summary),
        }
    for rate, items in _loads(latencies):
        summary = _latency_summary(latencies, rate, items)
        content["account" if items else f"latency-{rate:g}"] = {
            "runs": _at(latencies, rate, items),
            "summary": report.plain(summary),
            "ratios": report.ratios(summary),
        }
    return content


def _loads(latencies: Sequence[Latency]) -> list[tuple[float, int]]:
    return list(dict.fromkeys((run.rate, run.account_items) for run in latencies))


def _at(latencies: Sequence[Latency], rate: float, items: int) -> list[Latency]:
    return [run for run in latencies if (run.rate, run.account_items) == (rate, items)]


def _latency_summary(latencies: Sequence[Latency], rate: float, items: int) -> dict[str, Figures]:
    runs = _at(latencies, rate, items)
    summary = report.latency_summary(runs, rate)
    for name, figures in summary.items():
        for figure, read in _ACCOUNT.items():
            figures[figure] = report.middle([read(run) for run in runs if run.system == name])
    return summary


def _throughput_lines(runs: Sequence[Throughput]) -> list[str]:
    summary = report.throughput_summary(runs)
    ratios = report.ratios(summary)
    lines = [f"{'as fast as it goes':<32}{'events/s':>34}{'CPU us/event':>26}{'memory MiB':>22}"]
    for name, figures in summary.items():
        found = ratios.get(name, {})
        lines.append(
            f"{_title(name):<32}"
            f"{_cell(figures, found, 'events_per_s', 0):>34}"
            f"{_cell(figures, found, 'cpu_us_per_event', 1):>26}"
            f"{_cell(figures, found, 'resident_mib', 0):>22}"
        )
    return [*lines, report.stolen(runs), ""]


def _latency_lines(latencies: Sequence[Latency], rate: float, items: int) -> list[str]:
    runs = _at(latencies, rate, items)
    summary = _latency_summary(latencies, rate, items)
    ratios = report.ratios(summary)
    what = f"at {rate:,.0f} events/s"
    if items:
        what += f", {items:,} items"
    columns = {"p50_ms": "p50 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms"}
    columns |= {"account_purged_s": "account s"} if items else {}
    lines = [f"{what:<32}" + "".join(f"{title:>30}" for title in columns.values())]
    for name, figures in summary.items():
        found = ratios.get(name, {})
        cells = "".join(
            f"{_cell(figures, found, figure, 2 if figure == 'account_purged_s' else 1):>30}"
            for figure in columns
        )
        kept = "" if all(run.kept_up for run in runs if run.system == name) else "  DID NOT KEEP UP"
        lines.append(f"{_title(name):<32}{cells}{kept}")
    return [*lines, report.stolen(runs), ""]


def _title(name: str) -> str:
    return PEERS[name].title if name in PEERS else "this service, exactly once"


def _cell(figures: Figures, ratios: dict[str, float], figure: str, digits: int) -> str:
    """Return a median with its spread and ratio."""
    found: Middle | None = figures[figure]
    if found is None:
        return "-"
    text = f"{found.median:,.{digits}f}"
    if found.least != found.greatest:
        text += f" ({found.least:,.{digits}f} - {found.greatest:,.{digits}f})"
    return f"{text} {ratios[figure]:.2f}x" if figure in ratios else text
