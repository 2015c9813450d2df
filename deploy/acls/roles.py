"""The roles of `acls.yaml`, and the access rules they come to.  Nothing here asks Kafka."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

FILE: Final = Path(__file__).with_name("acls.yaml")

Resource = Literal["topic", "group", "transactional-id"]
Operation = Literal["Read", "Write", "Describe", "DescribeConfigs"]
_LOOK: Final[Operation] = "DescribeConfigs"


class Groups(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """join: consumer groups to be a member of; ask: those whose offsets may be asked for."""

    join: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What one role needs.

    does: its commands.  read, write, see: topics as in the contract.
    transactions: transactional ids.
    """

    does: tuple[str, ...]
    read: tuple[str, ...]
    write: tuple[str, ...]
    groups: Groups
    see: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()


class Place(NamedTuple):
    """Which names are meant.  watched: groups of others that OBJECTIONS_STORES counts."""

    prefix: str
    group: str
    watched: tuple[str, ...] = ()


class Rule(NamedTuple):
    """One thing that *principal* (`User:name`) may do; prefixed: with all that begins so."""

    principal: str
    resource: Resource
    name: str
    prefixed: bool
    operation: Operation

    def command(self, bootstrap: str, options: str = "") -> str:
        """Return the line for `kafka-acls.sh` that grants it."""
        pattern = "prefixed" if self.prefixed else "literal"
        return (
            f"kafka-acls.sh --bootstrap-server {bootstrap}{options} --add "
            f"--allow-principal {shlex.quote(self.principal)} --operation {self.operation} "
            f"--{self.resource} {shlex.quote(self.name)} --resource-pattern-type {pattern}"
        )


def read_roles() -> Mapping[str, Role]:
    """Return the roles by name."""
    return msgspec.yaml.decode(FILE.read_bytes(), type=dict[str, Role])


def rules(role: str, principal: str, place: Place) -> list[Rule]:
    """Return what *principal* may do as *role*, each once, in a fixed order."""
    return list(dict.fromkeys(_rules(role, read_roles()[role], principal, place)))


def _rules(name: str, role: Role, principal: str, place: Place) -> Iterator[Rule]:
    wanted: tuple[tuple[Operation, tuple[str, ...]], ...] = (
        ("Read", role.read),
        ("Write", role.write),
        ("Describe", role.see),
    )
    for operation, topics in wanted:
        for topic in topics:
            # Describe comes along with reading and writing, DescribeConfigs does not.
            for each in (operation, _LOOK):
                yield Rule(principal, "topic", f"{place.prefix}{topic}", False, each)
    watched = place.watched if name in ("worker", "monitor", "canary") else ()
    for group in role.groups.join:
        yield Rule(principal, "group", *_pattern(group, place), "Read")
    for group in (*role.groups.ask, *watched):
        yield Rule(principal, "group", *_pattern(group, place), "Describe")
    for transaction in role.transactions:
        yield Rule(principal, "transactional-id", *_pattern(transaction, place), "Write")


def _pattern(text: str, place: Place) -> tuple[str, bool]:
    """Return a name, and whether it is only the beginning of one."""
    name = text.replace("{prefix}", place.prefix).replace("{group}", place.group)
    return name.removesuffix("*"), name.endswith("*")
