"""
An OpenTelemetry collector for tests: takes spans as OTLP over HTTP, and tells of them.
"""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from streams.kafka.local import HOST
from streams.kafka.ports import free_port

PATH = "/v1/traces"


class Seen(NamedTuple):
    """A span as it arrived; ids in hexadecimal, times in ns since 1970."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    tracestate: str
    begin_ns: int
    end_ns: int
    attributes: dict[str, str | int | bool]
    failed: bool


class Collector:
    """Listens at one port; `stop` and `start` take it away and bring it back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.spans: list[Seen] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def environ(self) -> dict[str, str]:
        """The variables that send spans here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fits = (self.path, self.headers["Content-Type"]) == (PATH, "application/x-protobuf")
                if fits:
                    take(body)
                self.send_response(http.client.OK if fits else http.client.BAD_REQUEST)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        self._server = ThreadingHTTPServer((HOST, self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Be away: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def named(self, name: str, service: str = "") -> list[Seen]:
        """Return the spans of a name, of one service or of all."""
        return [each for each in self.spans if each.name == name and service in ("", each.service)]

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            names = {each.key: each.value.string_value for each in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [_seen(names["service.name"], span) for span in scope.spans]


def _seen(service: str, span: SpanMessage) -> Seen:
    attributes: dict[str, str | int | bool] = {}
    for each in span.attributes:
        which = each.value.WhichOneof("value")
        assert which is not None
        attributes[each.key] = getattr(each.value, which)
    return Seen(
        service,
        span.name,
        SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        attributes,
        span.status.code == Status.STATUS_CODE_ERROR,
    )
