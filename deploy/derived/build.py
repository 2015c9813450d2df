"""What is built: the texts of the files, by their paths within `deploy/`."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from deploy.derived.asyncapi import document
from deploy.derived.chart import chart_topics, chart_users
from deploy.monitoring.build import built as monitoring
from deploy.monitoring.build import yaml_text

FOLDER: Final = Path(__file__).parents[1]
CHART: Final = "helm/objection-streams"
_COMMAND: Final = "`python -m deploy.derived`"


def version() -> str:
    """Return the project's version, as pyproject.toml has it."""
    found: str = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))["project"][
        "version"
    ]
    return found


@cache
def built() -> Mapping[str, str]:
    """Return the files by path."""
    rules, dashboard = (monitoring()[name] for name in ("rules.yml", "dashboard.json"))
    return {
        "asyncapi.yaml": _said_first("topics/") + yaml_text(document(version())),
        f"{CHART}/files/topics.yaml": _said_first("topics/") + yaml_text(chart_topics()),
        f"{CHART}/files/users.yaml": _said_first("acls/acls.yaml") + yaml_text(chart_users()),
        f"{CHART}/files/rules.yml": rules,
        f"{CHART}/files/dashboard.json": dashboard,
    }


def _said_first(source: str) -> str:
    return f"# Built from {source} by {_COMMAND}: change that.\n"
