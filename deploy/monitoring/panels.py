"""
Grafana's panels, as much of them as the dashboard needs: values in, JSON's shapes out.

Colours are Grafana's named ones, which it has for its dark and its light theme; no panel tells by
colour alone, the number and its unit stand beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24


class Query(NamedTuple):
    """PromQL, and how its series are called: `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


class Step(NamedTuple):
    """From *value* on (None: from the least) a panel has this colour."""

    value: float | None
    color: str


def from_good(*, warn: float, bad: float) -> tuple[Step, ...]:
    """Return steps where less is better."""
    return Step(None, "green"), Step(warn, "orange"), Step(bad, "red")


def from_bad(*, warn: float, good: float) -> tuple[Step, ...]:
    """Return steps where more is better."""
    return Step(None, "red"), Step(warn, "orange"), Step(good, "green")


PLAIN: Final = (Step(None, "blue"),)


@dataclass(frozen=True, slots=True)
class Panel:
    """
    One panel.

    unit: Grafana's name of it (`s`, `short`, `percentunit`, `bytes`, `dateTimeFromNow`).
    about: what it tells and what to do, shown at the (i).
    no_value: what stands there when no series is found.
    columns: of tables, the label or "Value" -> the heading; others are hidden.
    """

    kind: str
    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    steps: Sequence[Step] = PLAIN
    width: int = 8
    height: int = 8
    no_value: str = "none"
    decimals: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    stacked: bool = False
    log: bool = False
    names: bool = False  # stat: the series' name beside its value


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with panels below; they are laid from left to right."""

    title: str
    panels: Sequence[Panel]


def laid_out(rows: Iterable[Row]) -> list[Json]:
    """Return the panels with their places and ids; a row's line ends when it is full."""
    found: list[Json] = []
    top = 0
    for row in rows:
        found.append(_place(_heading(row.title), len(found) + 1, 0, top, COLUMNS, 1))
        top += 1
        left = line_height = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, line_height = 0, top + line_height, 0
            shape = _shape(panel)
            found.append(_place(shape, len(found) + 1, left, top, panel.width, panel.height))
            left += panel.width
            line_height = max(line_height, panel.height)
        top += line_height
    return found


def _place(shape: Json, number: int, left: int, top: int, width: int, height: int) -> Json:
    return {"id": number, **shape, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _heading(title: str) -> Json:
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def _shape(panel: Panel) -> Json:
    now = panel.kind in {"stat", "table"}  # the others draw a course
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": now,
            "range": not now,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for index, query in enumerate(panel.queries)
    ]
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.no_value,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [step._asdict() for step in panel.steps]},
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    shape: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
    }
    {"stat": _stat, "table": _table, "timeseries": _timeseries}[panel.kind](panel, shape)
    return shape


def _stat(panel: Panel, shape: Json) -> None:
    shape["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value_and_name" if panel.names else "value",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }


def _timeseries(panel: Panel, shape: Json) -> None:
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 30 if panel.stacked else 0,
        "showPoints": "never",
        "spanNulls": False,  # a gap is a gap: nobody told anything
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
        "thresholdsStyle": {"mode": "line" if len(panel.steps) > 1 else "off"},
    }
    shape["fieldConfig"]["defaults"] |= {"custom": custom}
    if not panel.log:
        shape["fieldConfig"]["defaults"]["min"] = 0
    shape["options"] = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _table(panel: Panel, shape: Json) -> None:
    shape["options"] = {
        "frameIndex": 0,
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": []},
    }
    if "Value" in panel.columns:
        shape["options"]["sortBy"] = [{"displayName": panel.columns["Value"], "desc": True}]
    shape["transformations"] = [
        {
            "id": "organize",
            "options": {
                "indexByName": {name: index for index, name in enumerate(panel.columns)},
                "renameByName": dict(panel.columns),
            },
        },
        {  # and no other label: `instance` says enough of a series
            "id": "filterFieldsByName",
            "options": {"include": {"names": list(panel.columns.values())}},
        },
    ]
    shape["fieldConfig"]["defaults"]["custom"] = {
        "align": "auto",
        "cellOptions": {"type": "auto"},
        "filterable": False,
        "inspect": False,
    }
    if "Value" in panel.columns:
        shape["fieldConfig"]["overrides"] = [
            {
                "matcher": {"id": "byName", "options": panel.columns["Value"]},
                "properties": [
                    {"id": "custom.cellOptions", "value": {"type": "color-text"}},
                    {"id": "unit", "value": panel.unit},
                ],
            }
        ]
        shape["fieldConfig"]["defaults"]["unit"] = "none"  # of labels: a partition is no amount
