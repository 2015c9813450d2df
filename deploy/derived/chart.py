"""
The data of the Helm chart: the topics, and what each role may do in Kafka.  Pure.

The chart's templates make Strimzi's KafkaTopic and KafkaUser resources of it, as prefix, group and
number of partitions are known only there.
"""

from pathlib import Path
from typing import Any, Final

import yaml

import topics

ROLES: Final = Path(__file__).parents[1] / "acls" / "acls.yaml"
Json = dict[str, Any]

_READS: Final = ("Read", "DescribeConfigs")  # reading and writing bring Describe along
_WRITES: Final = ("Write", "DescribeConfigs")
_SEES: Final = ("Describe", "DescribeConfigs")


def chart_topics() -> list[Json]:
    """Return name, partitions (`shared` or a number) and configuration of each topic."""
    return [
        {
            "name": name,
            "partitions": topics.definition(name).partitions,
            "config": {key: each.value for key, each in topics.definition(name).config.items()},
        }
        for name in topics.names()
    ]


def chart_users() -> dict[str, list[Json]]:
    """Return the access rules of each role: type, name, whether names may go on, operations."""
    roles = yaml.safe_load(ROLES.read_text("utf-8"))
    return {name: _rules(role) for name, role in roles.items()}


def _rules(role: Json) -> list[Json]:
    granted: dict[str, list[str]] = {}
    for part, operations in (("read", _READS), ("write", _WRITES), ("see", _SEES)):
        for topic in role.get(part) or ():
            known = granted.setdefault(topic, [])
            known += [each for each in operations if each not in known]
    groups = role.get("groups") or {}
    rules = [_rule("topic", f"{{prefix}}{topic}", each) for topic, each in granted.items()]
    rules += [_rule("group", name, ["Read"]) for name in groups.get("join", ())]
    rules += [_rule("group", name, ["Describe"]) for name in groups.get("ask", ())]
    rules += [_rule("transactionalId", name, ["Write"]) for name in role.get("transactions", ())]
    return rules


def _rule(kind: str, name: str, operations: list[str]) -> Json:
    pattern = "prefix" if name.endswith("*") else "literal"
    return {
        "type": kind,
        "name": name.removesuffix("*"),
        "patternType": pattern,
        "operations": operations,
    }
