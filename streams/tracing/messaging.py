"""
Records as spans tell of them: by topic, partition and offset, never by key or value.

Source: OpenTelemetry semantic conventions, "Messaging Spans" and "Kafka".
"""

from typing import TYPE_CHECKING, Final

from streams.core.decode import Headers

if TYPE_CHECKING:
    from confluent_kafka import Message

HEADER_BYTES_MAX: Final = 512  # W3C asks for so much of `tracestate`, at the least


def messaging(
    name: str,
    kind: str,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
) -> dict[str, str | int | bool]:
    """Return the attributes of an operation *name* of a *kind*: `receive`, `process`, ..."""
    found: dict[str, str | int | bool] = {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    if topic is not None:
        found["messaging.destination.name"] = topic
    if partition is not None:
        found["messaging.destination.partition.id"] = str(partition)
    if offset is not None:
        found["messaging.kafka.offset"] = offset
    return found


def header_of(message: "Message", name: str) -> bytes | None:
    """Return the first header *name* of a record; None where it has none of a sane size."""
    headers: Headers = message.headers()  # type: ignore[assignment] # always a list
    for each, value in headers or ():
        if each == name and value is not None and len(value) <= HEADER_BYTES_MAX:
            return value.encode() if isinstance(value, str) else value
    return None


def tracestate_of(message: "Message") -> str | None:
    """Return what the caller's tracing system says of the trace besides, if it does."""
    found = header_of(message, "tracestate")
    return None if found is None or not found.isascii() else found.decode()
