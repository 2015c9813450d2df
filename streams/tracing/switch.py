"""
Whether spans are made, by OpenTelemetry's own variables; without OpenTelemetry itself.

Its specification would send spans to a collector on this machine where nothing is said.  Here
nothing said is off: tracing is asked for by an exporter or by an endpoint.
Source: opentelemetry-specification, "Environment Variable Specification".
"""

from collections.abc import Mapping
from typing import Final

from streams.errors import UsageProblem

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
OTLP, CONSOLE, NONE = "otlp", "console", "none"


def exporter_asked_for(environ: Mapping[str, str]) -> str | None:
    """
    Return which exporter *environ* asks for, `otlp` or `console`; None for no tracing.

    Raises UsageProblem for one that there is not, and for a protocol other than ours.
    """
    if environ.get(DISABLED, "").strip().lower() == "true":
        return None
    named = environ.get(EXPORTER, "").strip().lower()
    if not named:
        named = OTLP if any(environ.get(name, "").strip() for name in ENDPOINTS) else NONE
    if named == NONE:
        return None
    if named not in (OTLP, CONSOLE):
        raise UsageProblem(f"{EXPORTER} is {named!r}, expected {OTLP}, {CONSOLE} or {NONE}")
    if named == OTLP:
        _check_protocol(environ)
    return named


def _check_protocol(environ: Mapping[str, str]) -> None:
    for name in PROTOCOLS:
        protocol = environ.get(name, "").strip()
        if protocol and protocol != PROTOCOL:
            raise UsageProblem(
                f"{name} is {protocol!r}, expected {PROTOCOL}: spans go over HTTP alone, which "
                "collectors take at port 4318"
            )
        if protocol:
            return
