"""
A real Chromium: opens a page, lets its scripts run, and gives back what became of it.

Where it is not installed a test is skipped with the reason, and fails where CI is set.
"""

import json
import shutil
import subprocess
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest

from tests.servers import ABSENT

OPEN_S: Final = 60.0

# Runs axe on the page and leaves what it finds on the body.
_AXE_RUN: Final = """
axe.run().then(
  (found) => document.body.setAttribute("data-axe", JSON.stringify(found)),
  (error) => document.body.setAttribute("data-axe", JSON.stringify({error: String(error)})));
"""


def program() -> str:
    """Return the path of `chromium`; skips the test without it."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip(f"no chromium {ABSENT}: apt-get install chromium")
    return found


def opened(url: str, folder: Path, *options: str, virtual_s: int = 5) -> str:
    """
    Return the document at *url* as it is after *virtual_s* seconds of the browser's own clock.

    folder: for the browser's profile.  options: more of its command line.
    """
    done = subprocess.run(
        [
            *(program(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={virtual_s * 1000}"),
            *(*options, "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=OPEN_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def axe(html: str, folder: Path, *options: str) -> dict[str, Any]:
    """Return what axe-core says of a page: `violations`, `passes` and so on, as axe names them."""
    engine = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    page = folder / "page.html"
    page.write_text(f"{html}<script>{engine}</script><script>{_AXE_RUN}</script>", "utf-8")
    document = opened(page.as_uri(), folder, *options)
    found = document.split('data-axe="')[1].split('"')[0]
    said: dict[str, Any] = json.loads(unescape(found))
    assert "error" not in said, said
    return said
