"""The code is as pyproject.toml's rules want it; a failure prints what the tool found."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKED = ("streams", "topics", "tests", "deploy")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", *CHECKED], id="ruff-check"),
        pytest.param(["ruff", "format", "--check", "--diff", *CHECKED], id="ruff-format"),
        pytest.param(["mypy", "--strict", *CHECKED], id="mypy-strict"),
    ],
)
def test_tools_have_nothing_to_say(command: list[str]) -> None:
    """
    Linter, formatter and type checker find nothing.
    """
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
