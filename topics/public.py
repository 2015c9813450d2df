"""
What others build against, as one piece of data: `facts()` of this tree, `released()` of before.

`python -m topics.generate --release` writes it down when a version is released, and a test
compares every version written down with the tree (topics/compatible.py).
The layout of state rows is in it too: a worker of the last release may stand beside a newer one.
"""

from collections.abc import Iterator
from importlib.resources import files
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import click
import msgspec

import topics
from streams import errors, metric_table, settings
from streams.commands import main
from streams.core import changes, fanout, item, links, reasons, receipts
from streams.state import rows

Facts = dict[str, Any]

# Codes without a refused example: a record that large is no example.
CODES_WITHOUT_EXAMPLE = ("value_too_large",)
UNSAID = frozenset({"description", "title", "$schema"})  # for people: may be put better


def facts() -> Facts:
    """Return what others rely on, of this source tree."""
    return {
        "topics": {name: _topic(name) for name in topics.names()},
        "error_codes": sorted(
            {example.code for name in topics.names("input") for example in topics.refused(name)}
            | set(CODES_WITHOUT_EXAMPLE)
        ),
        "reasons": {each.name: each.value for each in reasons.Reason},
        # Rows of state hold places in these: more words go to the end.
        "words": {
            "products": list(reasons.PRODUCTS),
            "kinds": list(reasons.KINDS),
            "visibilities": list(reasons.VISIBILITIES),
        },
        "metrics": {
            each.name: {"type": each.type, "labels": list(each.labels)}
            for each in metric_table.METRICS
        },
        "settings": {
            f"{settings.PREFIX}{name}": default for name, (default, _) in settings.VARIABLES.items()
        },
        "commands": {path: sorted(options) for path, options in _commands(main, "objections")},
        "exit_statuses": {
            each.__name__: each.exit_status
            for each in (errors.CheckFailed, errors.UsageProblem, errors.Unreachable)
        },
        "state_rows": {
            "user": {"version": rows.USER_VERSION, "layout": layout(changes.UserRow)},
            "job": {"version": rows.JOB_VERSION, "layout": layout(fanout.Job)},
            "item": {"version": rows.ITEM_VERSION, "layout": layout(item.Item)},
            "receipt": {
                "version": rows.RECEIPT_VERSION,
                "layout": layout(receipts.ReceiptRow),
            },
            "tell": {"version": rows.TELL_VERSION, "layout": layout(links.Tell)},
        },
    }


def released() -> dict[str, Facts]:
    """Return the facts of all released versions, by version."""
    folder = files(topics.__name__).joinpath("released")
    return {
        source.name.removesuffix(".json"): msgspec.json.decode(source.read_bytes())
        for source in sorted(folder.iterdir(), key=lambda source: source.name)
        if source.name.endswith(".json")
    }


def layout(row_type: type[msgspec.Struct]) -> dict[str, list[str]]:
    """Return the fields, in order and with their types, of *row_type* and all structs in it."""
    found: dict[str, list[str]] = {}
    _describe(row_type, found)
    return found


def _describe(part: Any, found: dict[str, list[str]]) -> str:
    """Return the name of a type; add the structs in it to *found*."""
    arguments = [_describe(each, found) for each in get_args(part)]
    if arguments:
        origin = get_origin(part)
        if origin in {Union, UnionType}:
            return " | ".join(arguments)
        return f"{origin.__name__}[{', '.join(arguments)}]"
    name: str = "..." if part is Ellipsis else part.__name__
    if isinstance(part, type) and issubclass(part, msgspec.Struct) and name not in found:
        found[name] = []
        hints = get_type_hints(part)
        found[name] = [
            f"{field}: {_describe(hints[field], found)}" for field in part.__struct_fields__
        ]
    return name


def _topic(name: str) -> Facts:
    definition = topics.definition(name)
    return {
        "role": definition.role,
        "key": definition.key,
        "partitions": definition.partitions,
        "cleanup": definition.config["cleanup.policy"].value,
        "headers": sorted(definition.headers),
        "schema": _without_prose(topics.schema(name)),
    }


def _without_prose(part: Any, *, names: bool = False) -> Any:
    """Return a schema without descriptions; *names*: the keys of *part* are names of fields."""
    if isinstance(part, list):
        return [_without_prose(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _without_prose(value, names=not names and key in {"properties", "$defs"})
        for key, value in part.items()
        if names or key not in UNSAID
    }


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each command under *command* with its options, and its arguments as METAVAR."""
    yield (
        path,
        {
            name
            for parameter in command.params
            for name in (
                parameter.opts
                if parameter.param_type_name == "option"
                else [parameter.human_readable_name]
            )
        },
    )
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in sorted(command.list_commands(context)):
            each = command.get_command(context, name)
            assert each is not None
            yield from _commands(each, f"{path} {name}")
