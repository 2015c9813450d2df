"""
What makers of spans may ask for: the shape of `export.Exported`, without OpenTelemetry.

Times are ns since 1970.  Spans are told when they are over, with the times they had: what is made
of records is measured by what is measured anyway.  All methods are quick and raise nothing.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, Protocol

from streams.core.trace_context import TraceContext

MS: Final = 1_000_000  # in ns

Attributes = Mapping[str, str | int | bool]


class Kind(Enum):
    """What a span stands for; see `opentelemetry.trace.SpanKind`."""

    INTERNAL = "INTERNAL"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class OpenSpan(Protocol):
    """A span that has begun."""

    context: TraceContext

    def child(
        self,
        name: str,
        kind: Kind,
        begin_ns: int,
        end_ns: int,
        attributes: Attributes,
        span_id: int | None = None,
    ) -> None:
        """Tell of a span within this one, which is over; *span_id* where it was given before."""

    def end(self, end_ns: int, error: str | None = None) -> None:
        """End it; *error* is a stable code."""


class Spans(Protocol):
    """Where spans go: into a queue that a thread of its own sends off, or drops when it is full."""

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: TraceContext,
        begin_ns: int,
        attributes: Attributes,
        tracestate: str | None = None,
    ) -> OpenSpan | None:
        """Begin a span of *parent*, another process's; None where it is not to be recorded."""

    def new_span_id(self) -> int:
        """Return an id for a span that is told later."""

    def close(self) -> None:
        """Send what is left, within seconds, and end."""
