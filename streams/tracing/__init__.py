"""
Spans from an input record to what stores have made of it, for OpenTelemetry collectors.

    spans = open_spans("objections-worker", os.environ)  # None: off, nothing is imported

Only records whose `traceparent` says that the caller records the trace have spans.  Attributes
name topics, partitions and offsets, and nobody: no user, no item, no objection.
"""

from collections.abc import Mapping

from streams.errors import UsageProblem
from streams.tracing.spans import Kind, OpenSpan, Spans
from streams.tracing.switch import exporter_asked_for

__all__ = ["Kind", "OpenSpan", "Spans", "open_spans"]


def open_spans(service: str, environ: Mapping[str, str]) -> Spans | None:
    """
    Return where spans go, by OpenTelemetry's variables in *environ*; None where tracing is off.

    service: the name of this process among others, unless OTEL_SERVICE_NAME gives another.
    Raises UsageProblem for wrong variables, and where the extra `tracing` is not installed.
    """
    exporter = exporter_asked_for(environ)
    if exporter is None:
        return None
    try:
        from streams.tracing.export import Exported
    except ImportError as error:
        raise UsageProblem(
            f"tracing is asked for (OTEL_ variables), and {error.name} is not installed. Remedy: "
            "pip install 'objection-streams[tracing]', or OTEL_SDK_DISABLED=true"
        ) from error
    try:
        return Exported(exporter, service, environ)
    except ValueError as error:
        raise UsageProblem(f"tracing cannot begin by its OTEL_ variables: {error}") from error
