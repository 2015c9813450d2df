"""As much of PromQL as names series: what the rules and the dashboard of deploy/ look for."""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from deploy.monitoring.dashboard import dashboard
from deploy.monitoring.rules import rules

_NAME: Final = re.compile(
    r"\b(?P<name>(?:objections|process)[_:][\w:]+|up|ALERTS)\b(?:\{(?P<matchers>[^}]*)\})?"
)
_MATCHER: Final = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_GROUPING: Final = re.compile(r"\b(?:by|on|group_left|without)\s*\(([^)]*)\)")


class Selector(NamedTuple):
    """A series' name, and its matchers as they are written."""

    name: str
    matchers: str

    @property
    def text(self) -> str:
        """PromQL for it."""
        return f"{self.name}{{{self.matchers}}}"

    @property
    def labels(self) -> set[str]:
        """The labels that are asked for."""
        return set(_MATCHER.findall(self.matchers))


def selectors(expr: str) -> list[Selector]:
    """Return what *expr* looks for."""
    return [Selector(each["name"], each["matchers"] or "") for each in _NAME.finditer(expr)]


def grouped_by(expr: str) -> set[str]:
    """Return the labels by which *expr* groups or joins."""
    groups = _GROUPING.findall(expr)
    return {label.strip() for group in groups for label in group.split(",") if label.strip()}


def rule_list() -> list[dict[str, Any]]:
    """Return all rules."""
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def panel_list() -> list[dict[str, Any]]:
    """Return the dashboard's panels, without the headings of rows."""
    panels: list[dict[str, Any]] = dashboard()["panels"]
    return [each for each in panels if each["type"] != "row"]


def panel_exprs() -> Iterator[tuple[str, str]]:
    """Yield the panel's title and PromQL of each query; Grafana's interval is 10 s."""
    for panel in panel_list():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "10s")


def all_exprs() -> list[str]:
    """Return the PromQL of all rules and panels."""
    return [*(rule["expr"] for rule in rule_list()), *(expr for _, expr in panel_exprs())]
