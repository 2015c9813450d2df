"""Grants rules in Kafka, and tells how those of a principal differ from them."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # all of it is public
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from deploy.acls.roles import Place, Resource, Rule
from streams.errors import CommandError, Unreachable
from streams.settings import Settings

ANSWER_S: Final = 15.0

_RESOURCES: Final[dict[Resource, ResourceType]] = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
_OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


class Differences(NamedTuple):
    """missing: rules that do not stand; others: what stands beside them, for people."""

    missing: list[Rule]
    others: list[str]


def grant(client: AdminClient, settings: Settings, rules: Iterable[Rule]) -> None:
    """Let *rules* stand; those that do already stay as they are.  Raises CommandError."""
    futures = client.create_acls([_binding(rule) for rule in rules], request_timeout=ANSWER_S)
    for binding, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            what = f"granting {binding.principal} rights on {binding.name}"
            raise _translated(error, settings, what) from error


def compare(
    client: AdminClient, settings: Settings, rules: list[Rule], place: Place
) -> Differences:
    """Return how what stands for the principals of *rules* at *place* differs from them."""
    found: set[AclBinding] = set()
    for principal in {rule.principal for rule in rules}:
        any_of_it = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type] # any; its types are narrower than it
            ResourcePatternType.ANY,
            principal,
            None,  # type: ignore[arg-type]
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        future = client.describe_acls(any_of_it, request_timeout=ANSWER_S)
        try:
            found |= set(future.result())
        except KafkaException as error:
            raise _translated(error, settings, f"telling the rights of {principal}") from error
    wanted = {_binding(rule): rule for rule in rules}
    missing = [rule for binding, rule in wanted.items() if binding not in found]
    return Differences(
        missing, sorted(_shown(each) for each in found - wanted.keys() if _is_at(each, place))
    )


def _binding(rule: Rule) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if rule.prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        _RESOURCES[rule.resource],
        rule.name,
        pattern,
        rule.principal,
        "*",
        _OPERATIONS[rule.operation],
        AclPermissionType.ALLOW,
    )


def _is_at(found: AclBinding, place: Place) -> bool:
    """Whether a right is about names at *place*, and not only about those of another prefix."""
    name = str(found.name)
    if found.resource_pattern_type == ResourcePatternType.PREFIXED:
        return any(each.startswith(name) or name.startswith(each) for each in place[:2])
    return name == "*" or name.startswith((place.prefix, place.group))


def _shown(found: AclBinding) -> str:
    kind, operation, resource, pattern = (
        getattr(each, "name", str(each)).lower()
        for each in (
            found.permission_type,
            found.operation,
            found.restype,
            found.resource_pattern_type,
        )
    )
    return f"{found.principal} {kind} {operation} on {resource} {found.name} ({pattern})"


def _translated(error: KafkaException, settings: Settings, what: str) -> CommandError:
    reason = error.args[0]
    if reason.retriable() or reason.code() < 0:  # librdkafka's own: no answer
        return Unreachable(
            f"Kafka at {settings.bootstrap} cannot be reached: no answer while {what} "
            f"({reason.str()}). Remedy: see that it is up, and that OBJECTIONS_KAFKA_SASL_... are "
            "those of an administrator."
        )
    return CommandError(
        f"Kafka at {settings.bootstrap} refused {what}: {reason.str()}. Remedy: use the name and "
        "password of who may alter the cluster; Kafka needs an authorizer (authorizer.class.name)."
    )
