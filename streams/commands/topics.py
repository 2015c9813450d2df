"""`objections topics plan|apply|check`: the topics on a cluster, against their definitions."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from streams.commands.common import bootstrap_option, read_settings
from streams.errors import CheckFailed
from streams.kafka import admin
from streams.kafka.topics_compare import Difference, dangers
from streams.kafka.topics_plan import DEFAULT_PARTITIONS, Plan

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def topics() -> None:
    """
    Plan, apply and check the topics.

    Their definitions, and the reason for each setting, come with this package (topics/).
    """


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(
        command
    )


def _making_options(command: Command) -> Command:
    """Add what is chosen when topics are made."""
    command = click.option(
        "--replication",
        type=click.IntRange(min=1),
        help="Replicas of topics to make.  [default: 3, or as many as there are brokers]",
    )(command)
    return click.option(
        "--partitions",
        type=click.IntRange(min=1),
        help="Partitions of topics to make; fixed for the life of a prefix.  "
        f"[default: {DEFAULT_PARTITIONS}, or as many as topics already there have]",
    )(command)


@topics.command()
@bootstrap_option
@_making_options
@_json_option
def plan(
    bootstrap: str | None, partitions: int | None, replication: int | None, as_json: bool
) -> None:
    """Show what `apply` would change, and change nothing."""
    settings = read_settings(bootstrap)
    found = admin.plan(admin.connect(settings), settings, partitions, replication)
    if as_json:
        _print_json(asdict(found))
        return
    for line in _plan_lines(found, "create", "set"):
        click.echo(line)
    click.echo(_summary(found, "to create", "to set"))


@topics.command()
@bootstrap_option
@_making_options
@_json_option
def apply(
    bootstrap: str | None, partitions: int | None, replication: int | None, as_json: bool
) -> None:
    """
    Make missing topics and mend settings that endanger a promise.

    Deletes nothing, shortens no retention, and never changes a number of partitions.  Exit status 1
    when something is left that only people can mend.
    """
    settings = read_settings(bootstrap)
    done = admin.apply(admin.connect(settings), settings, partitions, replication)
    if as_json:
        _print_json(asdict(done))
    else:
        for line in _plan_lines(done, "created", "set"):
            click.echo(line)
        click.echo(_summary(done, "created", "set"))
    if done.cannot:
        message = f"{len(done.cannot)} left that cannot be mended from here: see `topics check`."
        raise CheckFailed(message)


@topics.command()
@bootstrap_option
@_json_option
def check(bootstrap: str | None, as_json: bool) -> None:
    """Name each difference that endangers a promise; exit status 1 if there is one."""
    settings = read_settings(bootstrap)
    differences = admin.check(admin.connect(settings), settings)
    endangering = dangers(differences)
    if as_json:
        listed = [asdict(difference) for difference in differences]
        _print_json({"ok": not endangering, "differences": listed})
    else:
        for line in _difference_lines(differences):
            click.echo(line)
    if endangering:
        message = f"{len(endangering)} endanger a promise of the service."
        raise CheckFailed(message)
    if not as_json:
        click.echo("All topics keep what the service promises.")


def _plan_lines(found: Plan, create: str, change: str) -> Iterable[str]:
    """Return a line for each thing done or not done, begun by a word that can be searched for."""
    yield from (f"{create:<8} {each}" for each in found.create)
    yield from (f"{change:<8} {each}" for each in found.set)
    yield from (f"{'cannot':<8} {each}" for each in found.cannot)
    yield from _difference_lines(found.left)


def _difference_lines(differences: Iterable[Difference]) -> Iterable[str]:
    return (f"{each.level:<8} {each}" for each in differences)


def _summary(found: Plan, create: str, change: str) -> str:
    if not found.changes and not found.cannot:
        return f"Nothing to do: all topics are there, shared partition count {found.partitions}."
    return (
        f"{len(found.create)} {create}, {len(found.set)} {change}, "
        f"{len(found.cannot)} cannot be mended from here; "
        f"shared partition count {found.partitions}, fixed for the life of the prefix."
    )


def _print_json(content: object) -> None:
    click.echo(json.dumps(content, indent=2))
