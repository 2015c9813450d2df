"""
The topics as data: one folder each, and the few functions that read them.

`topic.yaml` says what a topic is for and how the broker must keep it, `schema.v1.json` what a
record's value looks like, `accepted/` and `refused/` hold example records.  Commands, tests and
documentation all read this place.  Names are without OBJECTIONS_TOPIC_PREFIX.

Nothing here asks Kafka or the environment; the data comes along in the wheel.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import yaml

from topics.examples import Example, read_example

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "Config",
    "Definition",
    "Example",
    "Personal",
    "Role",
    "accepted",
    "definition",
    "names",
    "read_definition",
    "refused",
    "schema",
]

# libyaml's where there is one: every command that asks for topics would take a tenth of a second.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Role = Literal["input", "output", "acknowledgement", "internal"]

ROLES: tuple[Role, ...] = ("input", "output", "acknowledgement", "internal")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One of the broker's topic settings, under the broker's own name.

    danger: which deviation of a cluster endangers a promise of the service.  `differs` is any,
        `lower` and `higher` compare numbers (-1 is without end), `nothing` is left to people.
    because: why it has this value, and so what a deviation costs.
    """

    value: str
    danger: Literal["differs", "lower", "higher", "nothing"]
    because: str


class Personal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a topic holds of people; the page deploy/personal_data/README.md is made of it.

    fields: those of the value, and headers, that tell something of a person.
    what: in words, where the values have no fields or none of them is about people.
    why: what it is kept for.
    ends: when it is no longer kept, besides what `config` says.
    """

    why: str
    ends: str
    fields: tuple[str, ...] = ()
    what: str = ""


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What one topic.yaml says.

    partitions: `shared` is the count all shared topics of a prefix have, a number stays fixed.
    fields: name and meaning of each field of a value that is JSON.
    headers: name and meaning of each header a record may carry.
    personal: what of it is about people, and how long it stays.
    no_schema: why there is no schema.v1.json; empty where there is one.
    optional: what is left undone where the topic does not exist; empty: a worker does not start.
    """

    name: str
    role: Role
    key: str
    description: str
    value: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    partitions: Literal["shared"] | int
    partitions_because: str
    config: dict[str, Config]
    personal: Personal
    fields: dict[str, str] = {}
    headers: dict[str, str] = {}
    no_schema: str = ""
    optional: str = ""


@cache
def names(role: Role | None = None) -> tuple[str, ...]:
    """Return the names of all topics, or of those of one *role*: inputs first, internal last."""
    found = sorted(
        (ROLES.index(definition(folder.name).role), folder.name)
        for folder in files(__name__).iterdir()
        if folder.joinpath("topic.yaml").is_file()
    )
    return tuple(name for position, name in found if role in {None, ROLES[position]})


@cache
def definition(name: str) -> Definition:
    """
    Return what topic *name* is for and how the broker must keep it.

    Raises LookupError when there is no such topic, ValueError when its file is wrong.
    """
    return read_definition(name, _folder(name).joinpath("topic.yaml").read_text("utf-8"))


def read_definition(name: str, text: str) -> Definition:
    """Return what *text*, the topic.yaml of topic *name*, says; raises ValueError when wrong."""
    try:
        return msgspec.convert({"name": name, **yaml.load(text, _Loader)}, Definition)  # noqa: S506  (safe)
    except (msgspec.ValidationError, yaml.YAMLError, TypeError) as error:
        message = f"topics/{name}/topic.yaml: {error}"
        raise ValueError(message) from error


@cache
def schema(name: str) -> dict[str, Any] | None:
    """
    Return the JSON Schema of what a producer to *name* should send; None where values are bytes.

    A null value is outside it: whether one is allowed is said by `definition(name).value`.
    """
    source = _folder(name).joinpath("schema.v1.json")
    if not source.is_file():
        return None
    found: dict[str, Any] = msgspec.json.decode(source.read_bytes())
    return found


@cache
def accepted(name: str) -> tuple[Example, ...]:
    """Return the example records topic *name* takes (inputs) or carries (the others)."""
    return _examples(_folder(name).joinpath("accepted"))


@cache
def refused(name: str) -> tuple[Example, ...]:
    """Return example records that become dead letters; `Example.code` says with which code."""
    return _examples(_folder(name).joinpath("refused"))


def _folder(name: str) -> "Traversable":
    folder = files(__name__).joinpath(name)
    if not folder.joinpath("topic.yaml").is_file():
        message = f"there is no topic {name!r}; see topics.names()"
        raise LookupError(message)
    return folder


def _examples(folder: "Traversable") -> tuple[Example, ...]:
    if not folder.is_dir():
        return ()
    sources = sorted(folder.iterdir(), key=lambda source: source.name)
    return tuple(read_example(source.name, source.read_bytes()) for source in sources)
