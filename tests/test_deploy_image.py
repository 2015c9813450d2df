"""deploy/Dockerfile and .dockerignore: what the image is made of, and how it starts."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, Final

from click import Context

from deploy.checking.dockerfile import ignore_rules, instructions
from streams.commands import main
from streams.settings import PREFIX
from tests.deploying import ROOT, read_settings

PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def last_stage() -> dict[str, str]:
    """Return the last of each instruction in the stage that becomes the image."""
    found = instructions()
    start = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


def is_sent(path: str) -> bool:
    """Return whether *path* of the repository goes to the builder: the last rule that fits."""
    sent = True
    whole = PurePosixPath(path)
    for line in ignore_rules():
        rule = line.removeprefix("!").removeprefix("**/")
        if any(fnmatch(part, rule) for part in (path, *map(str, whole.parents), *whole.parts)):
            sent = line.startswith("!")
    return sent


def test_nobody_is_root() -> None:
    """
    The image's user is a number other than root's, so that Kubernetes can tell.
    """
    user, _, group = last_stage()["USER"].partition(":")

    assert user.isdigit()
    assert group.isdigit()
    assert "0" not in (user, group)


def test_it_starts_a_worker() -> None:
    """
    Entry point and command are a program of the wheel and a command it has, run without a shell.
    """
    stage = last_stage()
    (program,) = json.loads(stage["ENTRYPOINT"])
    (command,) = json.loads(stage["CMD"])

    assert program in PROJECT["project"]["scripts"]
    assert main.get_command(Context(main), command) is not None
    assert stage["STOPSIGNAL"] == "SIGTERM"


def test_its_settings_are_known() -> None:
    """
    OBJECTIONS_ variables are settings; state lies in a volume, so the root may be read-only.
    """
    stage = last_stage()
    pairs = dict(part.split("=", 1) for part in stage["ENV"].split())
    settings = read_settings(
        {name: each for name, each in pairs.items() if name.startswith(PREFIX)}
    )
    (volume,) = json.loads(stage["VOLUME"])

    assert volume in map(str, settings.state_dir.parents)
    assert stage["EXPOSE"] == f"{settings.http_port} {settings.intake_http[1]}"


def test_its_extras_and_its_python_are_ours() -> None:
    """
    What is installed besides are extras of the project, on a Python the project knows.
    """
    arguments = dict(rest.split("=") for name, rest in instructions() if name == "ARG")
    known = PROJECT["project"]["classifiers"]

    assert set(arguments["EXTRAS"].split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    assert f"Programming Language :: Python :: {arguments['PYTHON']}" in known


def test_no_secret_is_in_it() -> None:
    """
    No instruction names a secret, and what the wheel does not need is not sent to the builder.
    """
    said = [rest for _, rest in instructions()]

    assert [] == [rest for rest in said if re.search(r"(?i)password|token|secret", rest)]
    for path in (".git/config", "deploy/compose/http-token", ".env", "objections-state/lock"):
        assert not is_sent(path), path


def test_the_builder_gets_what_the_wheel_is_made_of() -> None:
    """
    Packages, readme, licence and the project's file are sent, and no caches.
    """
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted = ["pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]]

    for path in (*wanted, *(f"{package}/__init__.py" for package in wheel)):
        assert is_sent(path), path
    assert not is_sent("streams/core/__pycache__/user.cpython-313.pyc")
