"""Istio's other samples, their routes bound to the mesh; routes of connections and of gRPC."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.lab import Lab, cgroups
from tests.mesh.conftest import Manifest, Mesh, in_force
from tests.support import asking, naming, traffic
from tests.support.attempts import attempt
from tests.support.certificates import Authority
from tests.support.samples import SAMPLES
from tests.support.wait import until

_ADMIN, TLS, GRPC, MANY = 15000, 8443, 9090, 400
PODS = (
    *("tcp-echo/tcp-echo-services", "helloworld/helloworld", "helloworld/gateway-api/helloworld-versions"),
    *("httpbin/httpbin", "websockets/app"),
)
VERSIONS = ("v1", "v2")


def _own() -> Iterator[Manifest]:
    """A client; Services of tcp-echo for TLS, for gRPC, and one that keeps clients; by version too."""
    meta = {"name": "client", "namespace": "default", "labels": {"app": "client"}}
    containers = [{"name": "x", "image": "x"}]
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers}}
    ports = {"secure": ("tls", TLS), "say": ("grpc", GRPC), "kept": ("http", 9000)}
    for name, (spoken, number) in ports.items():
        port = {"name": spoken, "port": number}
        affinity = {"sessionAffinity": "ClientIP"} if name == "kept" else {}
        yield _service(name, {"app": "tcp-echo"}, port, **affinity)
        for version in VERSIONS:
            yield _service(f"{name}-{version}", {"app": "tcp-echo", "version": version}, port)
    for version in VERSIONS:
        yield _service(
            f"tcp-echo-{version}", {"app": "tcp-echo", "version": version}, {"name": "tcp", "port": 9000}
        )


def _service(name: str, selector: dict[str, str], port: Manifest, **more: str) -> Manifest:
    spec = {"selector": selector, "ports": [port], **more}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("routed")
    (folder / "own.yaml").write_text(yaml.safe_dump_all(_own()))
    certificate = Authority(folder / "ca").issue("spiffe://a/b")
    with ExitStack() as exits:
        files = [SAMPLES / f"{name}.yaml" for name in PODS]
        lab = exits.enter_context(Lab.up([*files, folder / "own.yaml"], name=f"wt-routed-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        for pod in lab.pods_of("tcp-echo"):
            version = pod.labels["version"]
            files_of = (str(certificate.chain), str(certificate.key))
            mesh.inside(pod.name).call(naming.serve_tls, TLS, version, *files_of)
            mesh.inside(pod.name).call(traffic.serve_grpc, GRPC, pod.name, version)
            to = (mesh.address(pod.name, 4), 9000)
            until(partial(reaches, mesh, to), what=f"{pod.name} is served")
        cgroups.kill(lab.pod("tornado").cgroup)  # the lab's server, which speaks no WebSocket
        mesh.inside("tornado").call(naming.serve_websocket, 8888)
        yield mesh


def reaches(mesh: Mesh, to: tuple[str, int]) -> bool:
    return mesh.inside("client").call(attempt, to)[0] == ""


def sample(name: str, service: str, **more: Any) -> list[Manifest]:
    """The objects of a file but for gateways: for requests and connections in the mesh to a service."""
    objects = [one for one in yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text()) if one]
    return [_bound(one, service, **more) for one in objects if one["kind"] != "Gateway"]


def _bound(one: Manifest, service: str, port: int = 0) -> Manifest:
    one["metadata"]["namespace"] = "default"
    if one["kind"] == "VirtualService":
        one["spec"] |= {"hosts": [service], "gateways": ["mesh"]}
        for rule in one["spec"].get("tcp", []):
            rule["match"] = [{"port": port}]
    elif "parentRefs" in one["spec"]:
        one["spec"]["parentRefs"] = [_parent(service)]
    return one


def _parent(service: str) -> Manifest:
    return {"group": "", "kind": "Service", "name": service}


def virtual_service(host: str, **spec: Any) -> Manifest:
    meta = {"name": host, "namespace": "default"}
    body = {"hosts": [host], **spec}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": meta, "spec": body}


def route(kind: str, service: str, **spec: Any) -> Manifest:
    api = "gateway.networking.k8s.io/v1" + ("alpha2" if kind == "TLSRoute" else "")
    meta = {"name": service, "namespace": "default"}
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": meta,
        "spec": {"parentRefs": [_parent(service)], **spec},
    }


def subsets(host: str) -> Manifest:
    named = [{"name": version, "labels": {"version": version}} for version in VERSIONS]
    meta = {"name": host, "namespace": "default"}
    spec = {"host": host, "subsets": named}
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": meta, "spec": spec}


def routed(mesh: Mesh, objects: list[Manifest]) -> ExitStack:
    """Until the end of a `with` these objects are in force, from its beginning on."""
    exits = ExitStack()
    origins = {
        f"{one['kind']} default/{one['metadata']['name']}"
        for one in objects
        if one["kind"] != "DestinationRule"
    }

    def told() -> str:
        return mesh.lab.node(mesh.lab.pod("client").node).fetch(_ADMIN, "/routes")

    # Subsets before the routes that name them, for these are waited for.
    objects = sorted(objects, key=lambda one: one["kind"] != "DestinationRule")
    exits.enter_context(
        in_force(mesh, objects, lambda: not any(one in told() for one in origins), "it is over")
    )
    until(lambda: all(one in told() for one in origins), what="it is in force")
    return exits


def ask(mesh: Mesh, service: str, port: int, path: str = "/") -> asking.Answer:
    return mesh.inside("client").call(asking.ask, (mesh.service(service, 4), port), service, path)


def is_share(counts: Counter[str], part: float) -> bool:
    """Whether v2 has this share, within 4.5 standard deviations."""
    total = counts.total()
    return abs(counts["v2"] - total * part) <= 4.5 * math.sqrt(total * part * (1 - part))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("tcp-echo-all-v1", 0.0),
        ("tcp-echo-20-v2", 0.2),
        ("gateway-api/tcp-echo-20-v2", 0.2),
        ("gateway-api/tcp-echo-all-v1", 0.0),
    ],
)
def test_tcp_echo(mesh: Mesh, name: str, part: float) -> None:
    objects = sample(f"tcp-echo/{name}", "tcp-echo", port=9000)
    if name == "tcp-echo-20-v2":
        objects.append(subsets("tcp-echo"))
    wanted = [one for one in objects if one["kind"] != "Service"]
    with routed(mesh, wanted):
        counts = Counter(ask(mesh, "tcp-echo", 9000).version for _ in range(MANY))
        assert set(counts) <= {*VERSIONS}
        assert is_share(counts, part), counts
        if part == 0 and "gateway" not in name:
            assert {ask(mesh, "tcp-echo", 9001).version for _ in range(20)} == {*VERSIONS}, "another port"


@pytest.mark.parametrize(
    ("name", "part"), [("helloworld-gateway", 0.5), ("gateway-api/helloworld-route", 0.1)]
)
def test_helloworld(mesh: Mesh, name: str, part: float) -> None:
    with routed(mesh, sample(f"helloworld/{name}", "helloworld")):
        counts = Counter(ask(mesh, "helloworld", 5000, "/hello").version for _ in range(MANY))
        assert set(counts) == {*VERSIONS}
        assert is_share(counts, part), counts
        assert ask(mesh, "helloworld", 5000, "/other").status == 404


def test_websockets(mesh: Mesh) -> None:
    with routed(mesh, sample("websockets/route", "tornado")):
        words = [f"word {number}" for number in range(20)]
        to = (mesh.service("tornado", 4), 8888)
        assert mesh.inside("client").call(naming.say, to, "tornado", "/ws", words) == words


def test_httpbin(mesh: Mesh) -> None:
    """Its sample has no route for the mesh; this is one of Istio's documentation."""
    rule = {"route": [{"destination": {"host": "httpbin"}}], "timeout": "2s", "retries": {"attempts": 3}}
    with routed(mesh, [virtual_service("httpbin", http=[rule])]):
        answer = ask(mesh, "httpbin", 8000, "/headers")
        assert (answer.status, answer.seen["x-envoy-attempt-count"]) == (200, "1")
        assert answer.seen["x-envoy-expected-rq-timeout-ms"] in ("2000", "1999")


def test_tls_by_sni(mesh: Mesh) -> None:
    to = (mesh.service("secure", 4), TLS)
    hosts = {"a.example": "v1", "*.b.example": "v2"}
    tls = [
        {"match": [{"sniHosts": [host]}], "route": [{"destination": {"host": "secure", "subset": version}}]}
        for host, version in hosts.items()
    ]
    one = virtual_service("secure", tls=tls)
    one["spec"]["hosts"] += hosts
    with routed(mesh, [subsets("secure"), one]):
        client = mesh.inside("client")
        assert {client.call(naming.ask_tls, to, "a.example") for _ in range(10)} == {"v1"}
        assert {client.call(naming.ask_tls, to, "x.b.example") for _ in range(10)} == {"v2"}
        assert {client.call(naming.ask_tls, to, "other.example") for _ in range(30)} == {*VERSIONS}


def test_tls_route(mesh: Mesh) -> None:
    to = (mesh.service("secure", 4), TLS)
    rules = [{"backendRefs": [{"name": "secure-v2", "port": TLS}]}]
    with routed(mesh, [route("TLSRoute", "secure", hostnames=["a.example"], rules=rules)]):
        client = mesh.inside("client")
        assert {client.call(naming.ask_tls, to, "a.example") for _ in range(10)} == {"v2"}
        assert client.call(naming.ask_tls, to, "other.example") == ""


def test_grpc_route(mesh: Mesh) -> None:
    service, _, method = traffic.METHOD[1:].partition("/")
    called = {"method": {"service": service, "method": method}}
    jasons = {**called, "headers": [{"name": "x-user", "value": "jason"}]}
    rules = [
        {"matches": [called], "backendRefs": [{"name": "say-v1", "port": GRPC}]},
        {"matches": [jasons], "backendRefs": [{"name": "say-v2", "port": GRPC}]},
    ]
    with routed(mesh, [route("GRPCRoute", "say", rules=rules)]):
        client, to = mesh.inside("client"), (mesh.service("say", 4), GRPC)
        assert {client.call(traffic.call, to) for _ in range(5)} == {"v1"}
        assert {client.call(traffic.call, to, (("x-user", "jason"),)) for _ in range(5)} == {"v2"}
        assert client.call(traffic.call, to, (), "/warren.test.Other/Say") == "UNIMPLEMENTED"


def test_a_client_stays_with_a_pod(mesh: Mesh) -> None:
    """sessionAffinity: ClientIP."""
    assert len({ask(mesh, "kept", 9000).version for _ in range(30)}) == 1
