"""What the tests of deploy/ share: its files, and the names that the settings know."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from streams.settings import PREFIX, VARIABLES, Settings

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
TOKEN: Final = "OBJECTIONS_HTTP_TOKEN"


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text("utf-8"))


def schema_of_others(name: str) -> dict[str, Any]:
    """Return the schema *name* of tests/schemas."""
    packed = (Path(__file__).parent / "schemas" / f"{name}.json.gz").read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(packed))
    return found


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings a process with *environ* has; SettingsError where one is not known."""
    known = {PREFIX + name for name in VARIABLES}
    return Settings.read(
        # A token is demanded where not only this machine can ask; older settings have none.
        {name: value for name, value in environ.items() if name != TOKEN or name in known}
    )
