"""Routes change while requests flow: none fails, and shares are right a second after each change."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import Mesh
from tests.support import traffic
from tests.support.traffic import Result
from tests.support.wait import until

RATE, CONNECTIONS = 200, 16
PORTS = {"http": 8080, "grpc": 9090}
MEASURED = 300  # requests for each share
_ADMIN = 15000
STEPS = (0, 1, 5, 10, 50, 100)
Json = dict[str, Any]
PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "grpc"])


def _objects() -> Iterator[Json]:
    ports = [{"name": name, "port": port} for name, port in PORTS.items()]
    service = {"selector": {"app": "web"}, "ports": ports}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": _meta("web"), "spec": service}
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": _meta("web"),
        "spec": {"host": "web", "subsets": subsets},
    }
    for version in ("v1", "v2"):
        labels = {"app": "web", "version": version}
        container = {"name": "web", "image": "x", "ports": [{"containerPort": PORTS["http"]}]}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(f"web-{version}"),
            "spec": spec,
        }
    labels = {"app": "client"}
    spec = {"nodeName": "node1", "containers": [{"name": "x", "image": "x"}]}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": {**_meta("client"), "labels": labels}, "spec": spec}


def _meta(name: str) -> Json:
    return {"name": name, "namespace": "default"}


def weights(v2: int) -> Json:
    shares = {"v1": 100 - v2, "v2": v2}
    route = [
        {"destination": {"host": "web", "subset": name}, "weight": part} for name, part in shares.items()
    ]
    spec = {"hosts": ["web"], "http": [{"route": route}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _meta("web"),
        "spec": spec,
    }


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two pods of each version on two nodes, and a client; gRPC is served beside the lab's own servers."""
    manifest: Path = tmp_path_factory.mktemp("canary") / "lab.yaml"
    manifest.write_text(yaml.safe_dump_all(_objects()))
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([manifest], name=f"wt-canary-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        for pod in lab.pods_of("web"):
            mesh.inside(pod.name).call(traffic.serve_grpc, PORTS["grpc"], pod.name, pod.labels["version"])
        yield mesh


class Flow:
    """Requests from the client's pod, of which none may fail."""

    def __init__(self, mesh: Mesh, protocol: str) -> None:
        self._client = mesh.inside("client")
        to = (mesh.service("web", 4), PORTS[protocol])
        self._client.call(traffic.start, protocol, to, "web", RATE, CONNECTIONS)

    def now(self) -> float:
        return self._client.call(traffic.now)

    def after(self, begin: float, count: int) -> list[Result]:
        """So many requests from then on."""
        return until(
            lambda: found if len(found := self.since(begin)) >= count else [], what=f"{count} requests"
        )

    def since(self, begin: float) -> list[Result]:
        return [one for one in self._client.call(traffic.results) if one.sent >= begin]

    def stop(self) -> list[Result]:
        return self._client.call(traffic.stop)


@contextmanager
def flowing(mesh: Mesh, protocol: str) -> Iterator[Flow]:
    flow = Flow(mesh, protocol)
    try:
        yield flow
    finally:
        results = flow.stop()
    failed = [one for one in results if one.error]
    assert not failed, f"{len(failed)} of {len(results)} failed, such as {failed[0]}"
    assert results


@contextmanager
def routed(mesh: Mesh, v2: int) -> Iterator[None]:
    """These weights are in force from the first connection on."""
    mesh.lab.cluster.put([weights(v2)])
    try:
        until(lambda: is_routed(mesh), what="the route is in force")
        yield
    finally:
        mesh.lab.cluster.delete(Key("VirtualService", "default", "web"))


def is_routed(mesh: Mesh) -> bool:
    """By what the client's tunnel says."""
    return "VirtualService default/web" in mesh.lab.node("node1").fetch(_ADMIN, "/routes")


def is_share(results: list[Result], part: float) -> bool:
    """Whether v2 has this share, within 4.5 standard deviations."""
    counts = Counter(one.version for one in results)
    deviation = math.sqrt(len(results) * part * (1 - part))
    return abs(counts["v2"] - len(results) * part) <= 4.5 * deviation


@PROTOCOLS
def test_weights_move(mesh: Mesh, protocol: str) -> None:
    with routed(mesh, 0), flowing(mesh, protocol) as flow:
        for v2 in STEPS:
            mesh.lab.cluster.put([weights(v2)])
            results = flow.after(flow.now() + 1, MEASURED)
            assert is_share(results, v2 / 100), Counter(one.version for one in results)


@PROTOCOLS
def test_pods_are_rolled_out(mesh: Mesh, protocol: str) -> None:
    """Pods of both versions come, serve, drain and go while 30 % are v2's."""
    with routed(mesh, 30), flowing(mesh, protocol) as flow:
        before = {pod.name for pod in mesh.lab.pods_of("web")}
        for version in ("v1", "v2"):
            roll_out(mesh, flow, version)
        results = flow.after(flow.now(), MEASURED)
        assert is_share(results, 0.3), Counter(one.version for one in results)
        assert not before & {one.pod for one in results}


def roll_out(mesh: Mesh, flow: Flow, version: str) -> None:
    """As a Deployment does: new pods serve before old ones are told to go, which end when nobody calls."""
    key = Key("Deployment", "default", f"web-{version}")
    old = mesh.lab.pods_of(f"deploy/{key.name}")
    for new in mesh.lab.scale(key, 2 * len(old)):
        mesh.inside(new.name).call(traffic.serve_grpc, PORTS["grpc"], new.name, version)
        until(lambda: new.name in {one.pod for one in flow.since(0)}, what="it serves")  # noqa: B023
    for pod in old:
        meta = {**pod.body["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        mesh.lab.cluster.put([{**pod.body, "metadata": meta}])
        until(lambda: is_left(flow, pod.name), what="nobody asks it")  # noqa: B023
        mesh.leave(pod.name)
        mesh.lab.delete(pod)


def is_left(flow: Flow, pod: str) -> bool:
    """Whether none of the last requests came to a pod, of which it would have had many."""
    return pod not in {one.pod for one in flow.since(0)[-RATE:]}


@PROTOCOLS
def test_routes_come_and_go(mesh: Mesh, protocol: str) -> None:
    """Connections at L4 stay as they are; those of a port that is not routed any more end in order."""
    with flowing(mesh, protocol) as flow:
        for _ in range(3):
            with routed(mesh, 100):
                flow.after(flow.now(), RATE // 2)
            until(lambda: not is_routed(mesh), what="the route is gone")
    with routed(mesh, 100), flowing(mesh, protocol) as flow:
        assert {one.version for one in flow.after(flow.now(), RATE // 2)} == {"v2"}
        mesh.lab.cluster.delete(Key("VirtualService", "default", "web"))
        until(lambda: not is_routed(mesh), what="the route is gone")
        gone = flow.now()
        until(lambda: {one.version for one in flow.since(gone)} == {"v1", "v2"}, what="both are asked")
        mesh.lab.cluster.put([weights(100)])
