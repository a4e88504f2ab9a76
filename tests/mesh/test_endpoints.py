"""Connections to one of several endpoints: which one, how many, for how long."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import PODS, Manifest, Mesh
from tests.support import endpoints, sockets
from tests.support.wait import until

HOST, VIP, PORT = "several.example", "192.0.2.90", 9000
SERVED, GONE, ECHO = [("far", 9001), ("near", 9002)], ("outside", 9009), ("outside", 9005)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-ends-{os.getpid()}"))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        for pod, port in SERVED:
            mesh.inside(pod).call(endpoints.serve, port, name=pod)
        mesh.inside("outside").call(sockets.serve, ECHO[1])
        yield mesh


def manifest(kind: str, name: str, spec: Manifest, api: str = "networking.istio.io/v1") -> Manifest:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


@contextmanager
def leading(mesh: Mesh, ends: list[tuple[str, int]], policy: Manifest | None = None) -> Iterator[None]:
    """A ServiceEntry with these endpoints, pods and ports; with a DestinationRule."""
    spec = {
        "hosts": [HOST],
        "addresses": [VIP],
        "resolution": "STATIC",
        "ports": [{"number": PORT, "name": "tcp", "protocol": "TCP"}],
        "endpoints": [{"address": mesh.address(pod, 4), "ports": {"tcp": port}} for pod, port in ends],
    }
    rules = (
        [manifest("DestinationRule", "several", {"host": HOST, "trafficPolicy": policy})] if policy else []
    )
    items = [*rules, manifest("ServiceEntry", "several", spec)]
    mesh.lab.cluster.put(items)
    node = mesh.lab.node("node1")

    def told(path: str) -> bool:
        return HOST in node.fetch(15000, path)

    try:
        until(lambda: told("/config_dump") and (not policy or told("/routes")), what="they hold")
        yield
    finally:
        for one in items:
            mesh.lab.cluster.delete(Key(one["kind"], "default", "several"))
        until(lambda: not told("/config_dump") and not told("/routes"), what="they are gone")


def names(mesh: Mesh, count: int, to: tuple[str, int] = (VIP, PORT)) -> Counter[str]:
    """Which servers the pod `a` gets with so many connections, one after the other."""
    told = (mesh.inside("a").call(endpoints.tell, to) for _ in range(count))
    return Counter(one.get("name") or str(*one) for one in told)


def outlier(**more: Any) -> Manifest:
    detection = {"consecutive5xxErrors": 1, "interval": "1s", "baseEjectionTime": "60s", **more}
    return {"outlierDetection": {"maxEjectionPercent": 100, **detection}}


@pytest.mark.parametrize("policy", [None, {"connectionPool": {"tcp": {"maxConnections": 100}}}])
def test_an_endpoint_that_refuses_is_made_up_for_by_another(mesh: Mesh, policy: Manifest | None) -> None:
    with leading(mesh, [*SERVED, GONE], policy):
        counts = names(mesh, 40)
        assert set(counts) == {"near", "far"}, counts


def test_where_all_refuse_so_do_we(mesh: Mesh) -> None:
    with leading(mesh, [GONE, ("near", GONE[1])]):
        assert names(mesh, 5) == {"refused": 5}


def test_a_pod_that_does_not_listen_is_made_up_for_by_another(mesh: Mesh) -> None:
    with leading(mesh, [("far", 9001), ("near", GONE[1])]):
        assert names(mesh, 20) == {"far": 20}


def test_an_endpoint_that_keeps_refusing_is_left_alone(mesh: Mesh) -> None:
    with leading(mesh, [*SERVED, GONE], {**outlier(), "loadBalancer": {"simple": "ROUND_ROBIN"}}):
        assert set(names(mesh, 30)) == {"near", "far"}
        mesh.inside("outside").call(endpoints.serve, GONE[1], name="late")
        late = names(mesh, 60)["late"]
        # Each of the tunnel's threads may find out by itself.
        assert late < 60 / 3 / 2, late


def test_no_more_connections_than_are_allowed(mesh: Mesh) -> None:
    with leading(mesh, [ECHO], {"connectionPool": {"tcp": {"maxConnections": 3}}}):
        inside = mesh.inside("a")
        numbers = inside.call(sockets.connect_many, (VIP, PORT), 3)
        assert inside.call(sockets.echoing, numbers) == 3
        log = mesh.lab.node("node1").log("tunnel")
        assert inside.call(sockets.is_turned_away, (VIP, PORT))
        until(lambda: "reason=overflow\tresponse_flags=UO" in log.read_text(), what="it is logged")
        inside.call(sockets.forget_all, numbers[:1])
        until(lambda: not inside.call(sockets.is_turned_away, (VIP, PORT)), what="there is room again")
        inside.call(sockets.forget_all, numbers[1:])


@pytest.mark.parametrize(
    ("setting", "reason"), [("idleTimeout", "idle"), ("maxConnectionDuration", "too_old")]
)
def test_connections_end_in_time(mesh: Mesh, setting: str, reason: str) -> None:
    with leading(mesh, [ECHO], {"connectionPool": {"tcp": {setting: "500ms"}}}):
        inside = mesh.inside("a")
        numbers = inside.call(sockets.connect_many, (VIP, PORT), 4)
        log = mesh.lab.node("node1").log("tunnel")
        before = log.read_text().count(f"reason={reason}")
        assert inside.call(sockets.broken, numbers) == 0
        until(lambda: inside.call(sockets.broken, numbers) == 4, what="they are ended")
        until(lambda: log.read_text().count(f"reason={reason}") == before + 4, what="it is logged")
        inside.call(sockets.forget_all, numbers)


def test_mutual_tls_is_never_left_out(mesh: Mesh) -> None:
    policy = {"tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {"tcp": {"maxConnections": 9}}}
    with leading(mesh, [ECHO], policy):
        log = mesh.lab.node("node1").log("tunnel")
        assert names(mesh, 3) == {"refused": 3}
        until(lambda: "reason=not_mutual" in log.read_text(), what="it is logged")
    with leading(mesh, SERVED, policy):
        assert set(names(mesh, 20)) == {"near", "far"}
