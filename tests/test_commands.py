"""The command line answers quickly, and every expected error has its exit status."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from streams.commands import COMMANDS, LazyGroup, main
from streams.errors import CheckFailed, Halt, SettingsError, Unreachable, UsageProblem


def test_help_imports_no_framework() -> None:
    """
    `objections --help` loads neither Faust nor a Kafka client.
    """
    code = (
        "import sys\n"
        "from streams.commands import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "loaded = {'faust', 'confluent_kafka', 'rocksdict', 'jgo'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    """
    Each command of the table is there and explains itself.
    """
    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0, result.output
    assert f"Usage: main {name}" in result.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_bootstrap(name: str) -> None:
    """
    Each command, or each command of its group, can be told which Kafka to talk to.
    """
    found = main.get_command(click.Context(main), name)
    assert found is not None
    group = list(found.commands.values()) if isinstance(found, click.Group) else [found]

    for command in group:
        assert any("--bootstrap" in each.opts for each in command.params), command.name


@pytest.mark.parametrize(
    "error,exit_status",
    [
        (CheckFailed("unequal counts"), 1),
        (Halt("fenced"), 1),
        (UsageProblem("taken"), 2),
        (SettingsError(["one", "two"]), 2),
        (Unreachable("no broker"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_expected_errors_have_their_status(error: BaseException, exit_status: int) -> None:
    """
    An expected error is told in lines marked as ours, without a traceback.
    """

    @click.group(cls=LazyGroup, invoke_without_command=True)
    def failing() -> None:
        """Fail."""
        raise error

    result = CliRunner().invoke(failing, [])

    assert exit_status == result.exit_code
    assert all(line.startswith("objections: ") for line in result.stderr.splitlines())
    assert str(error).splitlines() == [] or str(error).splitlines()[0] in result.stderr


def test_wrong_usage_has_status_2() -> None:
    """
    An option or command that does not exist ends with status 2.
    """
    assert CliRunner().invoke(main, ["no-such-command"]).exit_code == 2
    assert CliRunner().invoke(main, ["kafka", "--no-such-option"]).exit_code == 2


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["--bootstrap", "elsewhere:9092"], "listens on this machine only"),
        (["--bootstrap", "127.0.0.1:9092", "--port", "9092"], "expected one of them"),
        (["--bootstrap", "127.0.0.1"], "OBJECTIONS_BOOTSTRAP is '127.0.0.1', expected HOST:PORT"),
    ],
)
def test_local_kafka_refuses_other_addresses(arguments: list[str], said: str) -> None:
    """
    `objections kafka` starts nothing where it could not listen.
    """
    result = CliRunner().invoke(main, ["kafka", *arguments])

    assert result.exit_code == 2
    assert said in result.stderr
