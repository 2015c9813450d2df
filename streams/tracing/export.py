"""
Spans by the OpenTelemetry SDK: the only place that imports it.

The SDK's batch processor keeps a bounded queue (OTEL_BSP_MAX_QUEUE_SIZE) and drops what does not
fit; its thread sends.  A collector that is away is told of once, and once when it is back.
"""

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_RESOURCE_ATTRIBUTES,
    OTEL_SERVICE_NAME,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

import streams
from streams.core.trace_context import SAMPLED, TraceContext
from streams.tracing.spans import Attributes, Kind, OpenSpan
from streams.tracing.switch import OTLP

logger = logging.getLogger(__name__)

CLOSE_S: Final = 3.0  # for what is left; a process asked to end has more, but other things to do
LOCAL_COLLECTOR: Final = "http://localhost:4318"  # the exporter's own default

# They tell of every try that failed; `_TellingOnce` tells what matters.
_TALKATIVE: Final = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")


class Exported:
    """Implements `spans.Spans`; see `open_spans`.  For one thread at a time."""

    def __init__(self, exporter: str, service: str, environ: Mapping[str, str]) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        target = _target(environ) if exporter == OTLP else "standard output"
        found = OTLPSpanExporter() if exporter == OTLP else ConsoleSpanExporter()
        self._exporter = _TellingOnce(found, target)
        self._ids = _ChosenIds()
        self._provider = TracerProvider(
            resource=_resource(service, environ),
            shutdown_on_exit=False,  # that would wait for half a minute
            id_generator=self._ids,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("streams", streams.__version__)
        logger.info("spans of records with a sampled traceparent go to %s", target)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: TraceContext,
        begin_ns: int,
        attributes: Attributes,
        tracestate: str | None = None,
    ) -> OpenSpan | None:
        """Begin a span; see `spans.Spans`."""
        context = SpanContext(
            parent.trace_id,
            parent.span_id,
            is_remote=True,
            trace_flags=TraceFlags(SAMPLED * parent.sampled),
            trace_state=None if tracestate is None else TraceState.from_header([tracestate]),
        )
        span = self._tracer.start_span(
            name,
            set_span_in_context(NonRecordingSpan(context)),
            SpanKind[kind.name],
            attributes,
            start_time=begin_ns,
        )
        return _Open(self._tracer, self._ids, span, begin_ns) if span.is_recording() else None

    def new_span_id(self) -> int:
        """Return an id for a span that is told later."""
        return self._ids.generate_span_id()

    def close(self) -> None:
        """Send what is left, within seconds, and end."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            self._exporter.shutdown()  # ends its waiting to try again
            closing.join(CLOSE_S)


class _Open:
    """Implements `spans.OpenSpan`."""

    def __init__(self, tracer: Tracer, ids: "_ChosenIds", span: Span, begin_ns: int) -> None:
        found = span.get_span_context()
        self.context = TraceContext(found.trace_id, found.span_id, found.trace_flags.sampled)
        self._tracer = tracer
        self._ids = ids
        self._span = span
        self._within = set_span_in_context(span)
        self._begin_ns = begin_ns

    def child(
        self,
        name: str,
        kind: Kind,
        begin_ns: int,
        end_ns: int,
        attributes: Attributes,
        span_id: int | None = None,
    ) -> None:
        self._ids.next = span_id
        span = self._tracer.start_span(
            name, self._within, SpanKind[kind.name], attributes, start_time=begin_ns
        )
        span.end(max(begin_ns, end_ns))

    def end(self, end_ns: int, error: str | None = None) -> None:
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(max(self._begin_ns, end_ns))


class _ChosenIds(RandomIdGenerator):
    """Random ids, but for a span whose id was given away before it is told."""

    next: int | None = None

    def generate_span_id(self) -> int:
        chosen, self.next = self.next, None
        return chosen or random.getrandbits(64) or 1


class _TellingOnce(SpanExporter):
    """Passes spans on to *exporter*, and says when *target* stops taking them and when it does."""

    def __init__(self, exporter: SpanExporter, target: str) -> None:
        self._exporter = exporter
        self._target = target
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever it is, the spans are lost, and nothing else
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                logger.warning(
                    "%s does not take spans: they are lost until it does, which is said then; "
                    "nothing else waits for it",
                    self._target,
                )
            self._lost += len(spans)
        elif self._lost:
            logger.warning("%s takes spans again; lost are %d or more", self._target, self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _resource(service: str, environ: Mapping[str, str]) -> Resource:
    """Return who sends the spans: as the environment says, or else as *service*."""
    own = {SERVICE_VERSION: streams.__version__}
    named = environ.get(OTEL_RESOURCE_ATTRIBUTES, "")
    if not environ.get(OTEL_SERVICE_NAME) and f"{SERVICE_NAME}=" not in named:
        own[SERVICE_NAME] = service
    return Resource.create(own)


def _target(environ: Mapping[str, str]) -> str:
    """Return where spans go, without what an address may hold besides: a user, a password."""
    address = (
        environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
        or environ.get(OTEL_EXPORTER_OTLP_ENDPOINT)
        or LOCAL_COLLECTOR
    )
    found = urlsplit(address)
    port = f":{found.port}" if found.port else ""
    return f"the collector at {found.scheme}://{found.hostname}{port}"
