"""A collector of OpenTelemetry's, made of OpenTelemetry's own messages. Its functions run in a Resident.

It takes OTLP over gRPC and over HTTP in protobuf, refuses what its messages do not read, and keeps the rest.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_messages
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

Attributes = dict[str, Any]
_KINDS: dict[str, tuple[Any, Any]] = {
    "traces": (trace_messages.ExportTraceServiceRequest, trace_messages.ExportTraceServiceResponse),
    "logs": (logs_messages.ExportLogsServiceRequest, logs_messages.ExportLogsServiceResponse),
}
_SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
}


class Span(NamedTuple):
    """Ids in hexadecimal, `parent` empty for a root; kind: SERVER or CLIENT; seconds: how long it took."""

    resource: Attributes
    trace: str
    span: str
    parent: str
    name: str
    kind: str
    seconds: float
    attributes: Attributes
    events: list[tuple[str, Attributes]]
    failed: bool


class Log(NamedTuple):
    resource: Attributes
    body: str
    severity: str
    trace: str
    span: str
    attributes: Attributes


_spans: list[Span] = []
_logs: list[Log] = []
_requests: dict[tuple[str, str], list[dict[str, str]]] = {}
_grpc: list[grpc.Server] = []
_lock = threading.Lock()


def serve(port: int, http_port: int) -> None:
    """Take what comes at these ports; over gRPC until `go_away`."""
    come_back(port)
    server = ThreadingHTTPServer(("", http_port), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def come_back(port: int) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    for service, signal in _SERVICES.items():
        call: Any = grpc.unary_unary_rpc_method_handler(
            lambda body, context, signal=signal: _take(
                signal, "grpc", body, {name: str(value) for name, value in context.invocation_metadata()}
            )
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": call}),))
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    _grpc.append(server)


def go_away() -> None:
    _grpc.pop().stop(0).wait()


def spans() -> list[Span]:
    with _lock:
        return [*_spans]


def logs() -> list[Log]:
    with _lock:
        return [*_logs]


def forget() -> None:
    with _lock:
        _spans.clear()
        _logs.clear()


def requests(signal: str, protocol: str) -> list[dict[str, str]]:
    """The header of each that came."""
    with _lock:
        return [*_requests.get((signal, protocol), [])]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        signal = self.path.rpartition("/")[2]
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-type"] == "application/x-protobuf"
        answer = _take(signal, "http", body, {name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _take(signal: str, protocol: str, body: bytes, headers: dict[str, str]) -> bytes:
    request, response = _KINDS[signal]
    message = request.FromString(body)
    with _lock:
        _requests.setdefault((signal, protocol), []).append(headers)
        (_take_spans if signal == "traces" else _take_logs)(message)
    return bytes(response().SerializeToString())


def _take_spans(message: Any) -> None:
    for of in message.resource_spans:
        resource = _attributes(of.resource.attributes)
        for one in (span for scope in of.scope_spans for span in scope.spans):
            assert len(one.trace_id) == 16 and len(one.span_id) == 8
            assert one.flags & 1, "it is sampled"
            _spans.append(
                Span(
                    resource,
                    one.trace_id.hex(),
                    one.span_id.hex(),
                    one.parent_span_id.hex(),
                    one.name,
                    SpanMessage.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_"),
                    (one.end_time_unix_nano - one.start_time_unix_nano) / 1e9,
                    _attributes(one.attributes),
                    [(event.name, _attributes(event.attributes)) for event in one.events],
                    one.status.code == Status.STATUS_CODE_ERROR,
                )
            )


def _take_logs(message: Any) -> None:
    for of in message.resource_logs:
        resource = _attributes(of.resource.attributes)
        for one in (record for scope in of.scope_logs for record in scope.log_records):
            trace, span = one.trace_id.hex(), one.span_id.hex()
            attributes = _attributes(one.attributes)
            _logs.append(Log(resource, one.body.string_value, one.severity_text, trace, span, attributes))


def _attributes(pairs: "list[KeyValue]") -> Attributes:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
