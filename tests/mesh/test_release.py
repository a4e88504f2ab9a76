"""A pod leaves the mesh, and stays: what is open goes on to its end, what is new goes without the tunnel."""

from collections.abc import Callable
from functools import partial

import pytest

from agent.model.schema.objects import Key
from tests.mesh.conftest import Connection, Connector, Mesh
from tests.mesh.test_traffic import carries
from tests.support import sockets
from tests.support.wait import until

MODE = "istio.io/dataplane-mode"
PATHS = (("a", "far"), ("far", "a"), ("outside", "a"), ("a", "outside"), ("a", "near"), ("near", "a"))


def set_mode(mesh: Mesh, pod: str, mode: str) -> None:
    body = mesh.lab.cluster.objects[Key("Pod", "default", pod)]
    labels = {**body["metadata"]["labels"], MODE: mode}
    mesh.lab.cluster.put([{**body, "metadata": {**body["metadata"], "labels": labels}}])


def logged(mesh: Mesh, program: str) -> Callable[[str], bool]:
    """Whether a program of the first node has said that since now."""
    log = mesh.lab.node("node1").log(program)
    written = log.stat().st_size
    return lambda text: text in log.read_text()[written:]


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_what_is_open_goes_on_when_a_pod_leaves(mesh: Mesh, connect: Connector, family: int) -> None:
    agent, tunnel = logged(mesh, "agent"), logged(mesh, "tunnel")
    connections = [connect(source, target, family) for source, target in PATHS]
    straight = [connect("a", "near", family) for _ in range(2)]  # they may go without the tunnel
    set_mode(mesh, "a", "none")
    until(lambda: tunnel("stopped serving pod default/a"), what="the pod leaves")
    try:
        for source, target in PATHS:
            new = until(
                partial(attempted, connect, source, target, family), what=f"{source} reaches {target}"
            )
            assert new
            assert carries(new)
            close(new)
        for connection in (*connections, *straight):
            assert carries(connection)
        assert not agent("pod default/a is released")
        connections[0].client.call(sockets.end, connections[0].near)  # an end is an end still
        assert connections[0].server.call(sockets.receive, connections[0].far, 1) == b""
        for connection in (*connections, *straight):
            close(connection)
        until(lambda: agent("pod default/a is released"), what="nothing is left of it")
    finally:
        set_mode(mesh, "a", "ambient")
        until(lambda: agent("pod default/a is captured"), what="the pod is captured again")
    assert carries(connect("a", "far", family))


def test_a_pod_that_comes_back_while_it_leaves_is_captured_at_once(mesh: Mesh, connect: Connector) -> None:
    agent, tunnel = logged(mesh, "agent"), logged(mesh, "tunnel")
    connection = connect("a", "far")
    set_mode(mesh, "a", "none")
    until(lambda: tunnel("stopped serving pod default/a"), what="the pod leaves")
    set_mode(mesh, "a", "ambient")
    until(lambda: agent("pod default/a is captured"), what="the pod is captured again")
    assert carries(connection)
    assert carries(connect("a", "far"))
    assert carries(connect("far", "a"))


def attempted(connect: Connector, source: str, target: str, family: int) -> Connection | None:
    """A new connection; for a moment the other node may still take the pod for one in the mesh."""
    try:
        return connect(source, target, family)
    except OSError:
        return None


def close(connection: Connection) -> None:
    connection.client.call(sockets.forget, connection.near)
    connection.server.call(sockets.forget, connection.far)
