"""The Gateway API's conformance cases of routes, under the suite's names, at a gateway and in the mesh.

What of the suite holds, and what does not, is in docs/conformance.md, which the last test compares with this.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import yaml

from agent.lab import Lab
from tests.mesh.conformance import CASES, GROUP, WEIGHTS, Ask, Spec, host, path, routes, rule, to
from tests.mesh.conftest import Mesh
from tests.support import asking
from tests.support.wait import until

MANIFESTS = Path(__file__).with_name("conformance.yaml")
TABLE = Path(__file__).parents[2] / "docs" / "conformance.md"
MESH = {case.mesh: name for name, case in CASES.items() if case.mesh}
PORT, ALL_NAMESPACES, HOSTNAMES, FIRST, SECOND = 80, 81, 82, 83, 84
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
}


def services() -> Iterator[Spec]:
    """One for each case of the mesh, without the routes."""
    for name in (*MESH.values(), "HTTPRouteWeight", "MeshBasic", "MeshPorts", "MeshConsumerRoute"):
        ports = [{"name": f"http-{port}", "port": port, "targetPort": 3000} for port in (80, 8080)]
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
    yield from _of_listeners()
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
    shared = {"hostnames": ["*.bar.com", "x.foo.com", "none.example"]}
    of_both = [[rule(path("/both"), backends=[to("v2")])]]
    yield from routes("intersection", of_both, gateway("hostnames"), **shared)
    yield from routes("first", [[rule()]], gateway("ports", port=FIRST))
    yield from routes("second", [[rule(backends=[to("v2")])]], gateway("ports", sectionName="second"))
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
        yield mesh


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


def test_mesh_basic(mesh: Mesh) -> None:
    """MeshBasic: a Service without routes."""
    service_answers(mesh, "MeshBasic", Ask("/", "v1"))


def test_mesh_ports(mesh: Mesh) -> None:
    """MeshPorts: a route that names a port is for that one."""
    service_answers(mesh, "MeshPorts", Ask("/", "v2"))
    service_answers(mesh, "MeshPorts", Ask("/", "v1"), port=8080)


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
