"""The Gateway API's conformance cases of routes, under the suite's names, at a gateway and in the mesh.

What of the suite holds, and what does not, is in docs/conformance.md, which the last test compares with this.
"""

import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from agent.lab import Lab
from tests.mesh.conformance import (
    CASES,
    ECHO,
    GROUP,
    GRPC,
    ISOLATION,
    LISTENERS,
    SCRIPTED,
    WEIGHTS,
    Ask,
    Spec,
    grpc_method,
    grpc_rule,
    host,
    pair,
    path,
    redirect,
    response_headers,
    routes,
    rule,
    to,
)
from tests.mesh.conftest import Mesh
from tests.support import asking, backend, grpc_echo
from tests.support.grpc_echo import Answer as Echo
from tests.support.wait import until

MANIFESTS = Path(__file__).with_name("conformance.yaml")
TABLE = Path(__file__).parents[2] / "docs" / "conformance.md"
MESH = {case.mesh: name for name, case in CASES.items() if case.mesh}
PORT, ALL_NAMESPACES, HOSTNAMES, FIRST, SECOND, ISOLATED, ADDED = 80, 81, 82, 83, 84, 85, 86
# Cases that are tests of their own here, or in a file that is named.
OTHERS = {
    "HTTPRouteWeight",
    "MeshHTTPRouteWeight",
    "MeshTrafficSplit",
    "HTTPRouteCrossNamespace",
    "HTTPRouteListenerHostnameMatching",
    "HTTPRouteHostnameIntersection",
    "HTTPRouteListenerPortMatching",
    "MeshBasic",
    "MeshPorts",
    "MeshConsumerRoute",
    "MeshFrontend",
    "MeshFrontendHostname",
    "MeshGRPCRouteRequestHeaderModifier",
    "MeshGRPCRouteWeight",
    "GatewayHTTPListenerIsolation",
    "ListenerSetHTTPRouting",
    "HTTPRouteRedirectPortAndScheme",
    "GRPCRouteListenerHostnameMatching",
    *SCRIPTED,
    *GRPC,
}
MESH_GRPC = ("GRPCRouteRequestHeaderModifier", "GRPCRouteWeight")
FRONTEND = "x-header-set", "set"  # what the route of MeshFrontend adds to answers
REDIRECTS: dict[
    str, tuple[Spec, str]
] = {  # of HTTPRouteRedirectPortAndScheme, by path: what one says, and where it leads from port 80
    "/none": ({}, "http://example.org"),
    "/80": ({"port": 80}, "http://example.org"),
    "/8080": ({"port": 8080}, "http://example.org:8080"),
    "/https": ({"scheme": "https"}, "https://example.org"),
    "/https-443": ({"scheme": "https", "port": 443}, "https://example.org"),
    "/https-8443": ({"scheme": "https", "port": 8443}, "https://example.org:8443"),
}


def services() -> Iterator[Spec]:
    """One for each case of the mesh, without the routes."""
    http = [{"name": f"http-{port}", "port": port, "targetPort": 3000} for port in (80, 8080)]
    grpc = [{"name": "grpc", "port": 80, "targetPort": 3002}]
    own = ("HTTPRouteWeight", "MeshBasic", "MeshPorts", "MeshConsumerRoute", "MeshFrontend")
    all_ports = dict.fromkeys((*MESH.values(), *own), http) | dict.fromkeys(MESH_GRPC, grpc)
    for name, ports in all_ports.items():
        spec = {"selector": {"any": "one"}, "ports": ports}
        metadata = {"name": name.lower(), "namespace": "default"}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def gateway(name: str = "same-namespace", **more: object) -> Spec:
    return {"group": GROUP, "kind": "Gateway", "name": name, "namespace": "default", **more}


def parent(name: str, **more: object) -> Spec:
    return {"group": "", "kind": "Service", "name": name.lower(), **more}


def all_routes() -> Iterator[Spec]:
    for name, case in CASES.items():
        yield from routes(name, case.routes, gateway(), hostnames=[host(name)])
        if case.mesh:
            yield from routes(name, case.routes, parent(name))
    yield from routes("HTTPRouteWeight", WEIGHTS, gateway(), hostnames=[host("HTTPRouteWeight")])
    yield from routes("HTTPRouteWeight", WEIGHTS, parent("HTTPRouteWeight"))
    for name, rules in SCRIPTED.items():
        yield from routes(name, [rules], gateway(), hostnames=[host(name)])
    for name, rules in GRPC.items():
        yield from routes(name, [rules], gateway(), "GRPCRoute", hostnames=[host(name)])
    for port in (PORT, FIRST):
        rules = [
            {"matches": [path(one)], "filters": redirect(hostname="example.org", **spec)}
            for one, (spec, _) in REDIRECTS.items()
        ]
        parent_ = gateway() if port == PORT else gateway("ports", port=port)
        yield from routes(f"redirects-{port}", [rules], parent_, hostnames=["redirects.example.com"])
    yield from _of_listeners()
    for name in MESH_GRPC:
        yield from routes(name, [GRPC[name]], parent(name), "GRPCRoute")
    frontend = rule(filters=response_headers(set=[pair(*FRONTEND)]))
    yield from routes("MeshFrontend", [[frontend]], parent("MeshFrontend"))
    yield from routes("MeshPorts", [[rule(backends=[to("v2")])]], parent("MeshPorts", port=80))
    consumer = routes("MeshConsumerRoute", [[rule(backends=[to("v2")])]], parent("MeshConsumerRoute"))[0]
    consumer["metadata"]["namespace"] = "backends"
    consumer["spec"]["parentRefs"][0]["namespace"] = "default"
    consumer["spec"]["rules"] = [rule(backends=[{"name": "web-backend", "port": 8080}])]
    yield consumer


def _of_listeners() -> Iterator[Spec]:
    sections = {"one": ("one", "v1"), "two": ("two", "v2"), "three": ("three", "v3"), "four": ("four", "v1")}
    for name, (section, version) in sections.items():
        only = gateway("hostnames", sectionName=section)
        yield from routes(f"listener-{name}", [[rule(path("/listener"), backends=[to(version)])]], only)
    shared: Spec = {"hostnames": ["*.bar.com", "x.foo.com", "none.example"]}
    of_both = [[rule(path("/both"), backends=[to("v2")])]]
    yield from routes("intersection", of_both, gateway("hostnames"), **shared)
    yield from routes("first", [[rule()]], gateway("ports", port=FIRST))
    yield from routes("second", [[rule(backends=[to("v2")])]], gateway("ports", sectionName="second"))
    for name in LISTENERS:
        yield from routes(
            f"isolated-{name}", [[rule(path(f"/{name}"))]], gateway("isolated", sectionName=name)
        )
    added = {"group": GROUP, "kind": "ListenerSet", "name": "added", "namespace": "default"}
    yield from routes("added", [[rule(backends=[to("v2")])]], added)
    for section, version in (("one", "v1"), ("two", "v2"), ("three", "v3"), ("four", "v1")):
        only = gateway("hostnames", sectionName=section)
        yield from routes(
            f"grpc-{section}", [[grpc_rule(grpc_method("Echo"), to=version)]], only, "GRPCRoute"
        )
    across = routes("across", [[rule(backends=[{"name": "web-backend", "port": 8080}])]], {})[0]
    across["metadata"]["namespace"] = "backends"
    across["spec"]["parentRefs"] = [gateway("all-namespaces"), gateway()]
    yield across


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as exits:
        made = tmp_path_factory.mktemp("conformance") / "cases.yaml"
        made.write_text(yaml.safe_dump_all([*services(), *all_routes()]))
        lab = exits.enter_context(Lab.up([MANIFESTS, made], name=f"wt-conformance-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        lab.cluster.put([manual_slice(mesh)])
        for version in ("v1", "v2", "v3"):
            mesh.inside(version).call(backend.serve, 3001, version)
            mesh.inside(version).call(grpc_echo.serve, 3002, version)
        yield mesh


def manual_slice(mesh: Mesh) -> Spec:
    """Endpoints of the Service that has no selector."""
    labels = {"kubernetes.io/service-name": "manual"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "manual-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 3000, "protocol": "TCP"}],
        "endpoints": [{"addresses": [mesh.address("v3", 4)], "conditions": {"ready": True}}],
    }


def door(mesh: Mesh, port: int = PORT) -> asking.Address:
    return "127.0.0.1", next(own for own, there in mesh.lab.state.doors.items() if there == port)


def ask_gateway(mesh: Mesh, of: str, ask: Ask, port: int = PORT) -> asking.Answer | None:
    try:
        return asking.ask(door(mesh, port), of, ask.path, method=ask.method, headers=ask.headers)
    except OSError:
        return None


def ask_service(
    mesh: Mesh, name: str, ask: Ask, port: int = 80, client: str = "client"
) -> asking.Answer | None:
    own = name.lower()
    to = (mesh.service(own, 4), port)
    inside = mesh.inside(client)
    try:
        return inside.call(asking.ask, to, own, ask.path, method=ask.method, headers=ask.headers)
    except OSError:
        return None


def fits(answer: asking.Answer | None, ask: Ask, of: str) -> bool:
    """Whether an answer is what it has to be. of: the host that was asked for."""
    if answer is None:
        return False
    by: object = answer.status if isinstance(ask.by, int) else answer.version
    seen = all(answer.seen.get(name) == value for name, value in ask.seen.items())
    answered = all(
        answer.headers.get(name) == (value.replace("{host}", of) if value else value)
        for name, value in ask.answered.items()
    )
    return by == ask.by and seen and answered and ask.line in ("", answer.line)


def _fits_gateway(mesh: Mesh, of: str, ask: Ask, port: int) -> bool:
    return fits(ask_gateway(mesh, of, ask, port), ask, of)


def _fits_service(mesh: Mesh, name: str, ask: Ask, port: int, client: str) -> bool:
    return fits(ask_service(mesh, name, ask, port, client), ask, name.lower())


def gateway_answers(mesh: Mesh, of: str, *asks: Ask, port: int = PORT) -> None:
    for ask in asks:
        until(partial(_fits_gateway, mesh, of, ask, port), what=f"{of}: {ask}")


def service_answers(mesh: Mesh, name: str, *asks: Ask, port: int = 80, client: str = "client") -> None:
    for ask in asks:
        until(partial(_fits_service, mesh, name, ask, port, client), what=f"{name}: {ask}")


@pytest.mark.parametrize("name", CASES)
def test_at_a_gateway(mesh: Mesh, name: str) -> None:
    gateway_answers(mesh, host(name), *CASES[name].asks)


@pytest.mark.parametrize("name", MESH)
def test_in_the_mesh(mesh: Mesh, name: str) -> None:
    case = MESH[name]
    service_answers(mesh, case, *CASES[case].asks)


def shares(counts: Counter[str]) -> bool:
    return set(counts) == {"v1", "v2"} and abs(counts["v1"] - 140) < 36


def test_weight(mesh: Mesh) -> None:
    """HTTPRouteWeight, MeshHTTPRouteWeight, MeshTrafficSplit: 70 to 30 to 0."""
    name, own = "HTTPRouteWeight", host("HTTPRouteWeight")
    gateway_answers(mesh, own, Ask("/", 200))
    assert shares(counts := asking.versions(door(mesh), own, 50)), counts
    address, client = (mesh.service(name.lower(), 4), 80), mesh.inside("client")
    until(lambda: fits(ask_service(mesh, name, Ask("/", "v2")), Ask("/", "v2"), ""), what="v2 has its part")
    assert shares(counts := client.call(asking.versions, address, name.lower(), 50)), counts


def test_listener_hostname_matching(mesh: Mesh) -> None:
    """HTTPRouteListenerHostnameMatching: the listener that names a host best has it."""
    named = {
        "bar.com": "v1",
        "foo.bar.com": "v2",
        "baz.bar.com": "v3",
        "a.b.bar.com": "v3",
        "y.foo.com": "v1",
    }
    for of, by in named.items():
        gateway_answers(mesh, of, Ask("/listener", by), port=HOSTNAMES)
    for of in ("foo.com", "no.matching.host"):
        gateway_answers(mesh, of, Ask("/listener", 404), port=HOSTNAMES)


def test_hostname_intersection(mesh: Mesh) -> None:
    """HTTPRouteHostnameIntersection: a route has what it and a listener have in common."""
    for of in ("foo.bar.com", "x.bar.com", "x.foo.com"):
        gateway_answers(mesh, of, Ask("/both", "v2"), port=HOSTNAMES)
    for of in ("bar.com", "y.foo.com", "none.example"):
        gateway_answers(mesh, of, Ask("/both", 404), port=HOSTNAMES)


def test_listener_port_matching(mesh: Mesh) -> None:
    """HTTPRouteListenerPortMatching."""
    gateway_answers(mesh, "any.com", Ask("/", "v1"), port=FIRST)
    gateway_answers(mesh, "any.com", Ask("/", "v2"), port=SECOND)


def test_cross_namespace(mesh: Mesh) -> None:
    """HTTPRouteCrossNamespace: where the listener allows the route's namespace, and nowhere else."""
    gateway_answers(mesh, "any.com", Ask("/", "v3"), port=ALL_NAMESPACES)
    gateway_answers(mesh, "any.com", Ask("/", 404))


def test_http_listener_isolation(mesh: Mesh) -> None:
    """GatewayHTTPListenerIsolation."""
    for of, own in ISOLATION.items():
        gateway_answers(mesh, of, Ask(f"/{own}", "v1"), port=ISOLATED)
        others = (Ask(f"/{name}", 404) for name in LISTENERS if name != own)
        gateway_answers(mesh, of, *others, port=ISOLATED)


def test_listener_set(mesh: Mesh) -> None:
    """ListenerSetHTTPRouting."""
    gateway_answers(mesh, "any.com", Ask("/", "v2"), port=ADDED)


def test_redirect_port_and_scheme(mesh: Mesh) -> None:
    """HTTPRouteRedirectPortAndScheme: the listener's port is kept where neither is said."""
    for name, (spec, location) in REDIRECTS.items():
        for port in (PORT, FIRST):
            own = f"{location}:{port}" if port == FIRST and not spec else location
            ask = Ask(name, 302, answered={"location": f"{own}{name}"})
            gateway_answers(mesh, "redirects.example.com", ask, port=port)


def scripted(mesh: Mesh, case: str, path: str, key: str, **headers: str) -> asking.Answer:
    """What a backend answers that is asked to do so. key: under which backends keep it."""
    of = host(case)
    gateway_answers(mesh, of, Ask(path, 200))
    asked = {"x-case": key, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return asking.ask(door(mesh), of, path, headers=asked)


def seen(mesh: Mesh, version: str, key: str) -> int:
    """How many requests a backend has kept."""
    return len(mesh.inside(version).call(backend.seen).get(key, ()))


def _has(mesh: Mesh, version: str, key: str, least: int) -> bool:
    return seen(mesh, version, key) >= least


def test_request_mirror(mesh: Mesh) -> None:
    """HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors."""
    for case, mirrors in (
        ("HTTPRouteRequestMirror", ["v2"]),
        ("HTTPRouteRequestMultipleMirrors", ["v2", "v3"]),
    ):
        assert scripted(mesh, case, "/", case).body == b"v1"
        for version in ("v1", *mirrors):
            until(partial(_has, mesh, version, case, 1), what=f"{version} has it")


def test_request_percentage_mirror(mesh: Mesh) -> None:
    """HTTPRouteRequestPercentageMirror."""
    case, count = "HTTPRouteRequestPercentageMirror", 60
    gateway_answers(mesh, host(case), Ask("/none", 200))
    for part, least in (("all", count), ("half", 12), ("none", 0)):
        for _ in range(count):
            asking.ask(door(mesh), host(case), f"/{part}", headers={"x-case": part})
        until(partial(_has, mesh, "v2", part, least), what=f"{part} is mirrored")
    assert seen(mesh, "v2", "half") <= 48 and seen(mesh, "v2", "none") == 0


class Try(NamedTuple):
    """A request to a backend that is told how to answer; tries: how many come there, 0 where that depends."""

    case: str
    path: str
    said: dict[str, str]
    status: int
    tries: int = 1


@pytest.mark.parametrize(
    "one",
    [
        Try("HTTPRouteRetry", "/", {"x_answer": "500 503 200"}, 200, 3),
        Try("HTTPRouteRetry", "/", {"x_answer": "500 500 500 200"}, 500, 3),
        Try("HTTPRouteRetry", "/", {"x_answer": "501 200"}, 501),
        Try("HTTPRouteRetryConnectionError", "/", {"x_answer": "reset 200"}, 200, 2),
        Try("HTTPRouteRetryConnectionError", "/", {"x_answer": "500 200"}, 500),
        Try("HTTPRouteRetryWithTimeouts", "/tries", {"x_answer_delay": "2000"}, 504, 3),
        Try("HTTPRouteRetryWithTimeouts", "/all", {"x_answer": "500", "x_answer_delay": "100"}, 504, 0),
        Try("HTTPRouteTimeoutRequest", "/", {"x_answer_delay": "2000"}, 504),
        Try("HTTPRouteTimeoutRequest", "/never", {"x_answer_delay": "500"}, 200),
        Try("HTTPRouteTimeoutBackendRequest", "/", {"x_answer_delay": "2000"}, 504),
        Try("HTTPRouteTimeoutBackendRequest", "/never", {"x_answer_delay": "500"}, 200),
    ],
)
def test_retries_and_timeouts(mesh: Mesh, one: Try) -> None:
    key = f"{one.case}{one.path}{one.said}"
    assert scripted(mesh, one.case, one.path, key, **one.said).status == one.status
    if one.tries:
        until(lambda: seen(mesh, "v1", key) == one.tries, what=f"{one.tries} tries")


def test_backend_protocol_h2c(mesh: Mesh) -> None:
    """HTTPRouteBackendProtocolH2C: a client of HTTP/1.1 reaches a server that speaks HTTP/2 alone."""
    grpc = {"content-type": "application/grpc", "te": "trailers"}
    ask = Ask("/any.Service/Any", 200, grpc, method="POST", answered={"content-type": "application/grpc"})
    gateway_answers(mesh, host("HTTPRouteBackendProtocolH2C"), ask)


def test_backend_protocol_websocket(mesh: Mesh) -> None:
    """HTTPRouteBackendProtocolWebSocket: after 101 the connection is the server's and the client's alone."""
    of = host("HTTPRouteBackendProtocolWebSocket")
    gateway_answers(mesh, of, Ask("/", 200))
    upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    ]
    said = ["x-answer: 101", "x-answer-header: Connection: Upgrade", "x-answer-header: Upgrade: websocket"]
    with socket.create_connection(door(mesh), timeout=20) as sock:
        sock.sendall("\r\n".join(["GET / HTTP/1.1", f"Host: {of}", *upgrade, *said, "", ""]).encode())
        stream = sock.makefile("rb")
        assert b" 101 " in stream.readline()
        while stream.readline().strip():
            pass
        sock.sendall(b"no request of HTTP\r\nx-answer: 299\r\n\r\n")
        assert stream.readline().startswith(b"HTTP/1.1 299")


def test_service_types(mesh: Mesh) -> None:
    """HTTPRouteServiceTypes: without an address, and without a selector."""
    gateway_answers(mesh, host("HTTPRouteServiceTypes"), Ask("/headless", "v2"), Ask("/manual", "v3"))


def echoes(mesh: Mesh, of: str, method: str, *metadata: tuple[str, str], port: int = PORT) -> Echo:
    return grpc_echo.call(door(mesh, port), of, f"/{ECHO}/{method}", metadata)[0]


def grpc_answers(
    mesh: Mesh, of: str, method: str, by: str, *metadata: tuple[str, str], port: int = PORT
) -> None:
    """by: the version that answers, or gRPC's status."""

    def answers() -> bool:
        return by in echoes(mesh, of, method, *metadata, port=port)[:2]

    until(answers, what=f"{of} {method} {metadata} is answered by {by}")


def test_grpc_methods(mesh: Mesh) -> None:
    """GRPCExactMethodMatching, GRPCRouteNamedRule."""
    for case in ("GRPCExactMethodMatching", "GRPCRouteNamedRule"):
        for method, by in (("Echo", "v1"), ("EchoTwo", "v2"), ("EchoThree", "UNIMPLEMENTED")):
            grpc_answers(mesh, host(case), method, by)


def test_grpc_header_matching(mesh: Mesh) -> None:
    """GRPCRouteHeaderMatching."""
    for metadata, by in (
        ([("version", "one")], "v1"),
        ([("version", "two")], "v2"),
        ([("version", "two"), ("color", "orange")], "v1"),
        ([("color", "blue")], "v3"),
        ([("color", "green")], "v3"),
        ([("color", "purple")], "UNIMPLEMENTED"),
        ([], "UNIMPLEMENTED"),
    ):
        grpc_answers(mesh, host("GRPCRouteHeaderMatching"), "Echo", by, *metadata)


def test_grpc_listener_hostname_matching(mesh: Mesh) -> None:
    """GRPCRouteListenerHostnameMatching."""
    named = {"bar.com": "v1", "foo.bar.com": "v2", "baz.bar.com": "v3", "y.foo.com": "v1"}
    for of, by in (named | {"foo.com": "UNIMPLEMENTED", "no.matching.host": "UNIMPLEMENTED"}).items():
        grpc_answers(mesh, of, "Echo", by, port=HOSTNAMES)


Call = Callable[..., list[Echo]]


def at_gateway(mesh: Mesh, case: str) -> Call:
    return partial(grpc_echo.call, door(mesh), host(case), f"/{ECHO}/Echo")


def in_mesh(mesh: Mesh, case: str) -> Call:
    own = case.lower()
    to = (mesh.service(own, 4), 80)
    return partial(mesh.inside("client").call, grpc_echo.call, to, own, f"/{ECHO}/Echo")


@pytest.mark.parametrize("place", [at_gateway, in_mesh])
def test_grpc_request_header_modifier(mesh: Mesh, place: Callable[[Mesh, str], Call]) -> None:
    """GRPCRouteRequestHeaderModifier, MeshGRPCRouteRequestHeaderModifier."""
    call = place(mesh, "GRPCRouteRequestHeaderModifier")
    until(lambda: call()[0].seen.get("x-add") == "more", what="the route holds")
    (answer,) = call([("x-set", "old"), ("x-remove", "a"), ("x-stays", "b")])
    expected = {"x-set": "new", "x-add": "more", "x-stays": "b"}
    assert {
        name: value for name, value in answer.seen.items() if name.startswith("x-")
    }.items() >= expected.items()
    assert "x-remove" not in answer.seen


@pytest.mark.parametrize("place", [at_gateway, in_mesh])
def test_grpc_weight(mesh: Mesh, place: Callable[[Mesh, str], Call]) -> None:
    """GRPCRouteWeight, MeshGRPCRouteWeight: 70 to 30 to 0."""
    call = place(mesh, "GRPCRouteWeight")
    until(lambda: call()[0].by == "v2", what="v2 has its part")
    assert shares(counts := Counter(one.by for one in call(count=200))), counts


def test_mesh_basic(mesh: Mesh) -> None:
    """MeshBasic: a Service without routes."""
    service_answers(mesh, "MeshBasic", Ask("/", "v1"))


def test_mesh_ports(mesh: Mesh) -> None:
    """MeshPorts: a route that names a port is for that one."""
    service_answers(mesh, "MeshPorts", Ask("/", "v2"))
    service_answers(mesh, "MeshPorts", Ask("/", "v1"), port=8080)


def test_mesh_frontend(mesh: Mesh) -> None:
    """MeshFrontend, MeshFrontendHostname: a route is for what is sent to its Service, whatever the Host."""
    added, untouched = (Ask("/", "v1", answered={FRONTEND[0]: value}) for value in (FRONTEND[1], None))
    service_answers(mesh, "MeshFrontend", added)

    def ask(to: str, port: int, of: str) -> asking.Answer:
        return mesh.inside("client").call(asking.ask, (to, port), of)

    frontend, other = (mesh.service(name, 4) for name in ("meshfrontend", "meshbasic"))
    assert fits(ask(frontend, 80, "example.com"), added, "")
    assert fits(ask(other, 80, "meshfrontend"), untouched, "")
    assert fits(ask(mesh.address("v1", 4), 3000, "meshfrontend"), untouched, "")


def test_mesh_consumer_route(mesh: Mesh) -> None:
    """MeshConsumerRoute: for clients of the route's namespace alone."""
    service_answers(mesh, "MeshConsumerRoute", Ask("/", "v3"), client="backends/v3")
    service_answers(mesh, "MeshConsumerRoute", Ask("/", "v1"))


def test_the_table_is_true() -> None:
    """What is said to hold is tested here, or names the file that does."""
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([^|]*)\|$", TABLE.read_text(), re.M)
    holding = {name: where for name, holds, where in rows if holds == "yes"}
    here = {name for name, where in holding.items() if not where.strip()}
    assert here == {*CASES, *MESH, *OTHERS}
    for name, where in holding.items():
        assert not where.strip() or (TABLE.parents[1] / where.strip().strip("`")).exists(), (name, where)
