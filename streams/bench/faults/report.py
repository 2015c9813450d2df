"""
What a run has come to, as a table and as JSON.
"""

from collections import Counter
from typing import Any, Final

from streams.bench.faults.plan import KINDS
from streams.bench.faults.run import Result

SHOWN_VIOLATIONS: Final = 50


def table(result: Result) -> list[str]:
    """Return the lines people read."""
    by_rule = Counter(each.rule for each in result.violations)
    width = max(map(len, (*KINDS, *result.skipped)))
    lines = [f"{'fault':{width}}  {'times':>5}  {'whole again after':>17}"]
    for kind, about in KINDS.items():
        if times := result.faults[kind]:
            mean_s = f"{result.fault_s[kind] / times:.1f} s"
            lines.append(f"{kind:{width}}  {times:5d}  {mean_s:>17}  {about.what}")
    lines += [f"{kind:{width}}  skipped: {why}" for kind, why in sorted(result.skipped.items())]
    if result.unasked:
        lines.append(f"not asked for: {', '.join(result.unasked)}")
    lines += [
        "",
        f"faults      {result.faults.total():>9,}",
        f"events      {sum(result.events.values()):>9,}  {_counts(result.events)}",
        f"objections  {result.filed:>9,}  and {result.withdrawn:,} withdrawals",
        f"published   {sum(result.published.values()):>9,}  {_counts(result.published)}",
        f"items       {result.allowed_items:>9,}  allowed, {result.purged_items:,} tombstones",
        f"workers     {len(result.ended):>9,}  ended by themselves and were restarted",
        f"violations  {len(result.violations):>9,}  {_counts(by_rule)}".rstrip(),
    ]
    if result.abandoned:
        lines.insert(
            -1, f"given up    {result.abandoned:>9,}  records of the load, whose client was stuck"
        )
    shown = result.violations[:SHOWN_VIOLATIONS]
    lines += [f"  {each}" for each in shown]
    if len(result.violations) > len(shown):
        lines.append(f"  ... and {len(result.violations) - len(shown):,} more (all with --json)")
    return lines


def _counts(by_name: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in by_name.items())


def as_json(options: dict[str, Any], result: Result) -> dict[str, Any]:
    """Return all of it, for machines."""
    return {
        "benchmark": "faults",
        "options": options,
        "faults": {
            kind: {"times": times, "whole_again_s": round(result.fault_s[kind] / times, 3)}
            for kind, times in result.faults.items()
        },
        "skipped": result.skipped,
        "not_asked_for": result.unasked,
        "events": result.events,
        "given_up": result.abandoned,
        "objections": {"filed": result.filed, "withdrawn": result.withdrawn},
        "published": result.published,
        "items": {"allowed": result.allowed_items, "tombstones": result.purged_items},
        "workers_ended": result.ended,
        "violations": [each._asdict() for each in result.violations],
    }
