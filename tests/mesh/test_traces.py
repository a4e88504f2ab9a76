"""Traces and logs as a collector receives them that is made of OpenTelemetry's own messages."""

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.lab import Lab, upgrade
from agent.model.schema.objects import Key
from tests.mesh.conftest import Manifest, Mesh
from tests.support import asking, backend, collector, sockets
from tests.support.collector import Span
from tests.support.prometheus import total
from tests.support.wait import until

PODS, CONFIG = Path(__file__).with_name("traces.yaml"), Path(__file__).with_name("traces-config.yaml")
GRPC, HTTP, BACKEND, TCP = 4317, 4318, 8081, 7000
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-traces-{os.getpid()}", mesh_config=CONFIG))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        mesh.inside("collector").call(collector.serve, GRPC, HTTP)
        mesh.inside("shop").call(backend.serve, BACKEND, "shop")
        yield mesh


@contextmanager
def telemetry(mesh: Mesh, namespace: str = "default", **spec: Any) -> Iterator[None]:
    """One Telemetry for the namespace, or (the root's) the mesh, as long as it lasts."""
    metadata = {"name": "traces", "namespace": namespace}
    mesh.inside("collector").call(collector.forget)
    mesh.lab.cluster.put(
        [{"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": metadata, "spec": spec}]
    )
    try:
        until(lambda: all(_in_force(mesh)), what="it is in force on both nodes")
        yield
    finally:
        mesh.lab.cluster.delete(Key("Telemetry", namespace, "traces"))
        until(lambda: not any(_in_force(mesh)), what="it is not")


def _in_force(mesh: Mesh) -> list[bool]:
    dumps = [json.loads(mesh.lab.node(node).fetch(15000, "/config_dump")) for node in ("node1", "node2")]
    return [any(one["name"] in ("", "default") for one in dump["telemetry"]) for dump in dumps]


def tracing(provider: str = "otel", percentage: float = 100, **more: Any) -> Manifest:
    return {"providers": [{"name": provider}], "randomSamplingPercentage": percentage, **more}


def ask(mesh: Mesh, source: str, path: str, port: int = 80, **headers: str) -> asking.Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    to = (mesh.service("shop", 4), port)
    return mesh.inside(source).call(asking.ask, to, f"shop:{port}", path, headers=given)


def spans(mesh: Mesh, wanted: Callable[[Span], bool], count: int) -> list[Span]:
    """So many, as soon as they are there, clients' first."""
    found: list[Span] = []

    def there() -> bool:
        found[:] = [span for span in mesh.inside("collector").call(collector.spans) if wanted(span)]
        return len(found) >= count

    until(there, what=f"{count} spans")
    assert len(found) == count, found
    return sorted(found, key=lambda span: span.kind)


def of_trace(trace: str) -> Callable[[Span], bool]:
    return lambda span: span.trace == trace


def seen(answer: asking.Answer) -> tuple[str, str, str]:
    """Trace, span and flags that the application was told."""
    told = {name.lower(): value for name, value in answer.seen.items()}["traceparent"]
    found = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])", told)
    assert found, told
    return found[1], found[2], found[3]


@pytest.mark.parametrize("source", ["far", "near"])
def test_both_ends_make_spans_that_are_joined(mesh: Mesh, source: str) -> None:
    tags = {
        "team": {"literal": {"value": "blue"}},
        "user": {"header": {"name": "X-User"}},
        "region": {"header": {"name": "x-region", "defaultValue": "nowhere"}},
    }
    with telemetry(mesh, tracing=[tracing(customTags=tags)]):
        answer = ask(mesh, source, "/cart?item=1", x_user="jason", x_request_id="one")
        trace, span, flags = seen(answer)
        client, server = spans(mesh, of_trace(trace), 2)
    assert (client.kind, server.kind, flags) == ("CLIENT", "SERVER", "01")
    assert (client.parent, server.parent, server.span) == ("", client.span, span)
    assert client.resource["service.name"] == f"{source}.default"
    assert server.resource["service.name"] == "shop.default"
    assert server.resource["k8s.pod.name"] == "shop"
    for one in (client, server):
        told = {
            "http.request.method": "GET",
            "url.path": "/cart",
            "url.query": "item=1",
            "http.response.status_code": 200,
            "server.address": "shop",
            "server.port": 80,
            "guid:x-request-id": "one",
            "team": "blue",
            "user": "jason",
            "region": "nowhere",
            "response_flags": "-",
        }
        assert {name: one.attributes.get(name) for name in told} == told
        assert not one.failed and 0 < one.seconds < 20
    assert client.attributes["istio.canonical_service"] == source
    assert client.name == "GET shop.default.svc.cluster.local"


def test_the_callers_trace_goes_on(mesh: Mesh) -> None:
    with telemetry(mesh, tracing=[tracing(percentage=0)]):
        parent = f"00-{TRACE}-{CALLER}-01"
        answer = ask(mesh, "far", "/", traceparent=parent, tracestate="a=1")
        client, server = spans(mesh, of_trace(TRACE), 2)
        assert (client.parent, server.parent) == (CALLER, client.span)
        assert seen(answer)[:2] == (TRACE, server.span)
        assert answer.seen["tracestate"] == "a=1"

        other = TRACE[::-1]
        answer = ask(mesh, "far", "/", x_b3_traceid=other, x_b3_spanid=CALLER, x_b3_sampled="1")
        client, server = spans(mesh, of_trace(other), 2)
        assert (client.parent, server.parent) == (CALLER, client.span)
        assert answer.seen["x-b3-spanid"] == server.span == seen(answer)[1]

        # Nobody has decided about it, and the percentage is 0; what has been left out was left out for good.
        assert seen(ask(mesh, "far", "/"))[2] == "00"
        assert seen(ask(mesh, "far", "/", b3=f"{TRACE}-{CALLER}-0"))[2] == "00"
        ask(mesh, "far", "/last", traceparent=parent)
        spans(mesh, lambda span: span.attributes.get("url.path") == "/last", 2)
        assert len(mesh.inside("collector").call(collector.spans)) == 6


def test_half_of_the_traces_are_sampled(mesh: Mesh) -> None:
    with telemetry(mesh, tracing=[tracing(percentage=50)]):
        told = [seen(ask(mesh, "far", "/")) for _ in range(200)]
        sampled = {trace for trace, _, flags in told if flags == "01"}
        assert 58 < len(sampled) < 142, "six standard deviations of a binomial distribution"
        found = spans(mesh, lambda span: True, 2 * len(sampled))
    assert {span.trace for span in found} == sampled


def test_errors_and_retries_are_told(mesh: Mesh) -> None:
    retries = {"attempts": 2, "retryOn": "5xx"}
    route: Manifest = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {
            "hosts": ["shop"],
            "http": [{"name": "again", "route": [{"destination": {"host": "shop"}}], "retries": retries}],
        },
    }
    with telemetry(mesh, tracing=[tracing(match={"mode": "CLIENT"})]):
        mesh.lab.cluster.put([route])
        try:
            again = lambda span: span.attributes.get("route_name") == "again"  # noqa: E731
            to = (mesh.service("shop", 4), BACKEND)
            request = b"GET /%d HTTP/1.1\r\nhost: shop\r\nx-case: c%d\r\nx-answer: 503 200\r\n\r\n"

            def routed() -> bool:
                number = len(mesh.inside("shop").call(backend.seen))
                return (
                    mesh.inside("far").call(backend.ask, to, request % (number, number), "GET").status == 200
                )

            until(routed, what="it is tried again")
            found: list[Span] = []

            def there() -> bool:
                found[:] = filter(again, mesh.inside("collector").call(collector.spans))
                return bool(found)

            until(there, what="its span")
        finally:
            mesh.lab.cluster.delete(Key("VirtualService", "default", "shop"))
        span = found[0]
        assert [event["outcome"] for _, event in span.events] == ["503", "200"], span
        assert (span.attributes["http.request.resend_count"], span.failed) == (1, False)
        assert span.name == "GET again"
        ask(mesh, "far", "/nobody", port=8082)
        (span,) = spans(mesh, lambda span: span.attributes.get("url.path") == "/nobody", 1)
    assert (span.failed, span.attributes["error.type"]) == (True, "503")
    assert span.attributes["response_flags"].startswith("UF")


def test_connections_are_spans_too(mesh: Mesh) -> None:
    far, shop = mesh.inside("far"), mesh.inside("shop")
    listener = shop.call(sockets.listen, TCP)
    with telemetry(mesh, tracing=[tracing()]):
        near_end = far.call(sockets.connect, (mesh.service("shop", 4), TCP))
        far_end, _ = shop.call(sockets.accept, listener)
        far.call(sockets.send, near_end, b"hello")
        assert shop.call(sockets.receive, far_end, 5) == b"hello"
        far.call(sockets.close, near_end)
        shop.call(sockets.close, far_end)
        client, server = spans(mesh, lambda span: span.name.startswith("TCP"), 2)
    assert (client.kind, server.kind) == ("CLIENT", "SERVER")
    assert (client.trace, client.span, client.parent) == (server.trace, server.parent, "")
    assert client.attributes["server.address"] == "shop.default.svc.cluster.local"
    assert (client.attributes["bytes_sent"], server.attributes["bytes_recv"]) == (5, 5)
    assert server.attributes["source.principal"] == "spiffe://cluster.local/ns/default/sa/default"


def test_a_gateway_begins_a_trace(mesh: Mesh) -> None:
    address = "127.0.0.1", next(own for own, there in mesh.lab.state.doors.items() if there == 80)
    with telemetry(mesh, "istio-system", tracing=[tracing()]):
        found: list[Span] = []

        def there() -> bool:
            asking.ask(address, "shop.example.com", "/")
            taken = mesh.inside("collector").call(collector.spans)
            found[:] = [span for span in taken if span.resource["k8s.namespace.name"] == "istio-system"]
            return bool(found)

        until(there, what="a span of the gateway")
        gateway, server = spans(mesh, of_trace(found[0].trace), 2)
    assert (gateway.parent, server.parent) == ("", gateway.span)
    assert (gateway.name, server.resource["service.name"]) == ("GET door", "shop.default")


def test_a_collector_may_speak_http(mesh: Mesh) -> None:
    with telemetry(mesh, tracing=[tracing("otel-http")]):
        trace, _, _ = seen(ask(mesh, "far", "/"))
        spans(mesh, of_trace(trace), 2)
    came = mesh.inside("collector").call(collector.requests, "traces", "http")
    assert came and {headers["x-tenant"] for headers in came} == {"blue"}


def test_a_collector_may_be_away(mesh: Mesh) -> None:
    inside = mesh.inside("collector")
    with telemetry(mesh, tracing=[tracing()]):
        inside.call(collector.go_away)
        told = {seen(ask(mesh, "far", "/"))[0] for _ in range(20)}
        until(lambda: "otel (traces)" in _log(mesh), what="the tunnel tells of it")
        inside.call(collector.come_back, GRPC)
        found = spans(mesh, lambda span: True, 2 * len(told))
    assert {span.trace for span in found} == told


def test_access_logs_go_where_a_telemetry_says(mesh: Mesh) -> None:
    wanted = "request.url_path == '/wanted' || request.headers['x-log'] == 'yes'"
    logging = {"providers": [{"name": "otel-logs"}], "filter": {"expression": wanted}}
    with telemetry(mesh, accessLogging=[logging], tracing=[tracing(percentage=0)]):
        ask(mesh, "far", "/unwanted")
        ask(mesh, "far", "/wanted?a=b")
        trace, _, _ = seen(ask(mesh, "far", "/", x_log="yes"))
        inside = mesh.inside("collector")
        until(lambda: len(inside.call(collector.logs)) >= 4, what="the records of both nodes")
        records = inside.call(collector.logs)
    told = sorted((one.attributes["path"], one.attributes["direction"]) for one in records)
    ends = ("inbound", "outbound")
    assert told == [*(("/", end) for end in ends), *(("/wanted?a=b", end) for end in ends)]
    for one in records:
        assert (one.body, one.severity, one.attributes["response_code"]) == ("request complete", "INFO", 200)
    assert {one.trace for one in records if one.attributes["path"] == "/"} == {trace}


def upgrade_all(lab: Lab) -> None:
    for node in lab.nodes:
        upgrade.upgrade_tunnel(node)


def send(mesh: Mesh, source: str, count: int, meanwhile: Callable[[Lab], None]) -> int:
    """Requests over connections of 25, so many and until something else has happened; gives their number."""
    to, sent = (mesh.service("shop", 4), 80), 0
    with ThreadPoolExecutor(1) as beside:
        going = beside.submit(meanwhile, mesh.lab)
        while sent < count or not going.done():
            assert mesh.inside(source).call(asking.versions, to, "shop", 25) == {"v1": 100}
            sent += 100
        going.result()
    return sent


@pytest.mark.parametrize("meanwhile", [lambda lab: None, upgrade_all], ids=["", "through-upgrades"])
@pytest.mark.parametrize("source", ["near", "far"])
def test_figures_agree(mesh: Mesh, source: str, meanwhile: Callable[[Lab], None]) -> None:
    """Requests and connections that were sent, counted, traced and logged.

    `WARREN_FIGURES`: how many requests, at least.
    """
    count = int(os.environ.get("WARREN_FIGURES", "400"))
    inside = mesh.inside("collector")

    def counted(name: str) -> list[float]:
        ends = ("source", "destination")
        return [total(mesh.lab, name, reporter=end, source_workload=source) for end in ends]

    names = ("istio_requests_total", "istio_request_bytes_count", "istio_tcp_connections_closed_total")
    with telemetry(mesh, accessLogging=[{"providers": [{"name": "otel-logs"}]}], tracing=[tracing()]):
        before = {name: counted(name) for name in names}
        sent = send(mesh, source, count, meanwhile)
        found = spans(mesh, lambda span: span.name.startswith("GET"), 2 * sent)

        def logged(body: str) -> list[collector.Log]:
            return [one for one in inside.call(collector.logs) if one.body == body]

        def outbound() -> list[collector.Log]:
            return [one for one in logged("connection complete") if one.attributes["direction"] == "outbound"]

        def told(name: str) -> list[float]:
            return [now - then for now, then in zip(counted(name), before[name], strict=True)]

        until(lambda: len(logged("request complete")) >= 2 * sent, what="all records")
        records = logged("request complete")
        for name in names[:2]:
            until(lambda: told(name) == [sent, sent], what=f"{sent} of {name}")  # noqa: B023
        # Only those of the application: others may be older than what is said of logs.
        until(lambda: told(names[2])[0] == len(outbound()), what="all connections")
    assert len(records) == 2 * sent
    assert {one.span for one in records} == {one.span for one in found}
    for node in ("node1", "node2"):
        assert "warren_otlp_dropped_total{" not in mesh.lab.node(node).fetch(15020, "/metrics")


def _log(mesh: Mesh) -> str:
    return mesh.lab.node("node2").log("tunnel").read_text()
