"""
The dashboard: its first row answers whether anybody's objection is late, where, and since when.

Below it follow the stages, partitions and their owners, work that waits, stores, dead letters,
grants, restores and the processes' resources.  Nothing is to be chosen but the data source.
"""

from typing import Any, Final

from deploy.monitoring import form, late, outcome, passage, processes
from deploy.monitoring.panels import SOURCE, Row, laid_out
from deploy.monitoring.rules import RUNBOOK

UID: Final = "objections"
TITLE: Final = "Objections: how late is propagation?"


def dashboard(runbook: str = RUNBOOK) -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON; *runbook* is linked to when it is a URL."""
    links = [
        {
            "type": "link",
            "title": "Runbook",
            "icon": "doc",
            "url": runbook,
            "targetBlank": True,
            "asDropdown": False,
            "includeVars": False,
            "keepTime": False,
            "tags": [],
            "tooltip": "What users lose, how to confirm, what to do, how to know it is over",
        }
    ]
    return {
        "uid": UID,
        "title": TITLE,
        "description": "Objections to the use of one's data for AI training, on their way to every "
        f"store.  Alerts and what to do: {runbook}.",
        "tags": ["objections"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # the same moment in all panels
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": links if runbook.startswith(("http://", "https://")) else [],
        "templating": {"list": [_SOURCES]},
        "annotations": {"list": [_ALERTS]},
        "panels": laid_out(rows()),
    }


_SOURCES: Final = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {"text": "default", "value": "default"},
    "hide": 0,
    "includeAll": False,
    "multi": False,
    "options": [],
    "refresh": 1,
    "regex": "",
}

_ALERTS: Final = {
    "name": "Critical alerts",
    "datasource": SOURCE,
    "enable": True,
    "hide": False,
    "iconColor": "red",
    "expr": 'ALERTS{alertname=~"Objections.*",alertstate="firing",severity="critical"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{topic}} {{partition}} {{store}} {{instance}}",
    "step": "30s",
}


def rows() -> list[Row]:
    """Return the dashboard's rows, from what is looked at first to what explains it."""
    return [
        Row("Is anybody's objection late?", [*late.late_now(), *late.where()]),
        Row("Stages: from filed to published", passage.stages()),
        Row("Partitions and their owners", passage.partitions()),
        Row("Work that waits", passage.waiting()),
        Row("Stores: from published to hidden and erased", outcome.stores()),
        Row("The form to object with", form.panels()),
        Row("Dead letters", outcome.dead_letters()),
        Row("What becomes allowed, and what is purged", outcome.grants()),
        Row("Restores", processes.restores()),
        Row("Processes", processes.processes()),
    ]
