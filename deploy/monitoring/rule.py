"""A rule's shape, as Prometheus reads it."""

from textwrap import dedent
from typing import Any

from deploy.monitoring.limits import Severity

Rule = dict[str, Any]


def record(name: str, expr: str) -> Rule:
    """Return a recording rule."""
    return {"record": name, "expr": _tidy(expr)}


def alert(
    name: str,
    severity: Severity,
    expr: str,
    for_: str,
    summary: str,
    description: str,
) -> Rule:
    """Return an alert; *for_* is how long *expr* must hold, such as 2m."""
    return {
        "alert": f"Objections{name}",
        "expr": _tidy(expr),
        "for": for_,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _tidy(expr: str) -> str:
    return dedent(expr).strip()
