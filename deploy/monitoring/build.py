"""What is built: the texts of `rules.yml` and `dashboard.json`.  Pure."""

import json
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.monitoring.dashboard import dashboard
from deploy.monitoring.rules import RUNBOOK, rules

FOLDER: Final = Path(__file__).parent
_SAID_FIRST: Final = (
    "# Built from rules.py and limits.py by `python -m deploy.monitoring`: change these.\n"
)


def built(runbook: str = RUNBOOK) -> dict[str, str]:
    """Return the files by name; *runbook* is where alerts and dashboard send people."""
    return {
        "rules.yml": _SAID_FIRST + yaml_text(rules(runbook)),
        "dashboard.json": json.dumps(dashboard(runbook), indent=1, ensure_ascii=False) + "\n",
    }


def yaml_text(value: Any) -> str:
    """Return *value* as YAML; texts of several lines keep them."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
