"""
Whether Kafka lets this user do what a worker does to topics: asked at the start, all at once, and
again where Kafka has refused something.

Else a right that lacks would show when it is first needed: that to read a changelog at the next
restart, on whatever day that is.
"""

from collections.abc import Container, Mapping
from typing import Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined] # all of it is public
    AclOperation,
    AdminClient,
)

from streams.errors import CheckFailed, Unreachable
from streams.kafka.denied import ROLES, user
from streams.settings import Settings
from streams.worker.names import (
    AUDIT_TRAIL,
    CHANGELOGS,
    DECISIONS,
    OUTPUTS,
    PURGE_ACKS,
    TELLS,
    WITH_LINKS,
)

ANSWER_S: Final = 15.0

READ: Final = (*WITH_LINKS.all, *DECISIONS, AUDIT_TRAIL, PURGE_ACKS, *CHANGELOGS)
WRITTEN: Final = (*OUTPUTS, TELLS, *CHANGELOGS)
_WANTED: Final = ((AclOperation.READ, READ), (AclOperation.WRITE, WRITTEN))


def check_rights(client: AdminClient, settings: Settings, present: Container[str]) -> None:
    """Raise CheckFailed, naming each of the topics *present* and right, where one lacks."""
    found = lacking(client, settings, present)
    if found:
        text = (
            f"Kafka does not allow {user(settings)} what a worker does. Remedy: {ROLES}; it lacks"
        )
        raise CheckFailed("\n".join([text, *found]))


def lacking(client: AdminClient, settings: Settings, present: Container[str]) -> list[str]:
    """
    Return the rights on the topics *present* that lack now, each as "topic: Right".

    Raises Unreachable.
    """
    allowed = _allowed(client, settings, present)
    return [
        f"{settings.topic(name)}: {operation.name.capitalize()}"
        for operation, names in _WANTED
        for name in names
        if allowed.get(name) is not None and operation not in (allowed[name] or ())
    ]


def _allowed(
    client: AdminClient, settings: Settings, present: Container[str]
) -> Mapping[str, "frozenset[AclOperation] | None"]:
    """Return what is allowed by topic; None where Kafka does not say."""
    full_names = {settings.topic(name): name for name in {*READ, *WRITTEN} if name in present}
    futures = client.describe_topics(
        TopicCollection(list(full_names)),
        include_authorized_operations=True,
        request_timeout=ANSWER_S,
    )
    found: dict[str, frozenset[AclOperation] | None] = {}
    for full, future in futures.items():
        try:
            operations = future.result().authorized_operations
        except KafkaException as error:
            text = f"Kafka at {settings.bootstrap} does not tell of {full}: {error.args[0].str()}"
            raise Unreachable(f"{text}. Remedy: see that all brokers are up.") from error
        found[full_names[full]] = None if operations is None else frozenset(operations)
    return found
