"""
What all commands share: options, settings, and how an error becomes an exit status.

0 done, 1 a check failed, 2 bad usage or settings, 3 Kafka or a store could not be reached,
130 interrupted.  Source: contract.md, "Commands".
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from streams.errors import CheckFailed, CommandError, Halt, UsageProblem
from streams.settings import DEFAULT_BOOTSTRAP, Settings

EXIT_CHECK_FAILED = 1
SHOW_AGAIN_S = 0.2  # between two passing lines
EXIT_INTERRUPTED = 130  # What a shell reports for a process ended by Ctrl-C.

Command = TypeVar("Command", bound=Callable[..., Any])


def bootstrap_option(command: Command) -> Command:
    """
    Add `--bootstrap HOST:PORT` to *command*, which gets it as `bootstrap: str | None`.

    None means not given: `read_settings` then takes OBJECTIONS_BOOTSTRAP or its default,
    and the command can tell whether the user named a Kafka at all.
    """
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT",
        default=None,
        help=f"Kafka to talk to; else OBJECTIONS_BOOTSTRAP, else {DEFAULT_BOOTSTRAP}.",
    )(command)


def read_settings(bootstrap: str | None = None, http: str | None = None) -> Settings:
    """
    Return the settings of this process; an option given (HOST:PORT) beats the environment.

    Raises SettingsError with all that is wrong at once.
    """
    environ = dict(os.environ)
    if bootstrap is not None:
        environ["OBJECTIONS_BOOTSTRAP"] = bootstrap
    if http is not None:
        environ["OBJECTIONS_HTTP"] = http
    return Settings.read(environ)


@contextmanager
def passing_line() -> Iterator[Callable[[str], None]]:
    """Give what shows a line of progress that passes, where there is a terminal."""
    shows, shown_s = sys.stderr.isatty(), 0.0

    def say(text: str) -> None:
        nonlocal shown_s
        if shows and time.monotonic() - shown_s > SHOW_AGAIN_S:
            shown_s = time.monotonic()
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    try:
        yield say
    finally:
        if shows:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def exit_statuses() -> Iterator[None]:
    """Turn expected errors into one message and an exit status, never into a traceback."""
    try:
        yield
    except CommandError as error:
        fail(str(error), error.exit_status)
    except Halt as error:
        fail(f"stopped before anything was committed: {error}", EXIT_CHECK_FAILED)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", EXIT_INTERRUPTED)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless *yes*.  Raises CheckFailed for a no, UsageProblem where nobody can answer."""
    if yes:
        return
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageProblem(
            "nobody answered the question, expected yes or no. Remedy: give --yes."
        ) from None
    raise CheckFailed("nothing was sent.")


def fail(message: str, exit_status: int) -> None:
    """Print *message* to standard error, each line marked as ours, and leave the process."""
    for line in message.splitlines() or ["failed"]:
        click.echo(f"objections: {line}", err=True)
    sys.exit(exit_status)
