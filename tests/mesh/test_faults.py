"""Two parts away at once, a node that is cut off, a pod that goes while it connects."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lab import Lab, mesh
from agent.lab.members import Node
from tests.mesh.conftest import PODS, Mesh
from tests.support import attempts, sockets
from tests.support.attempts import attempt
from tests.support.resident import Resident
from tests.support.wait import until

PORT, FULL, ATTEMPTS, DIRECT = 7600, 7601, 10, 3


@pytest.fixture(scope="module")
def faulty() -> Iterator[Mesh]:
    with Lab.up([PODS], name=f"wt-faults-{os.getpid()}") as lab:
        found = Mesh(lab, {})
        for pod in ("near", "far", "outside"):
            found.inside(pod).call(sockets.serve, PORT)
        yield found
        found.close()


@pytest.fixture
def client(faulty: Mesh) -> Resident:
    return faulty.inside("a")


def reaches(faulty: Mesh, target: str) -> bool:
    return faulty.inside("a").call(attempt, (faulty.address(target, 4), PORT))[0] == ""


@pytest.fixture
def direct(faulty: Mesh, client: Resident) -> Iterator[list[int]]:
    """Connections that need no tunnel."""
    node, to = faulty.lab.node("node1"), (faulty.address("near", 4), PORT)

    def is_direct() -> bool:
        before = node.verdicts()["inbound_direct"]
        client.call(sockets.forget_all, client.call(sockets.connect_many, to, 1))
        return node.verdicts()["inbound_direct"] > before

    until(is_direct, what="the pod of the same node is reached directly")
    numbers = client.call(sockets.connect_many, to, DIRECT)
    yield numbers
    client.call(sockets.forget_all, numbers)


def kill(node: Node, *roles: str) -> None:
    for role in roles:
        node.stop(role, within=0)


def start(node: Node, *roles: str) -> None:
    """All at once: one may need another to get ready."""
    for role in roles:
        mesh.start(node.state, node.place, role)
    for role in roles:
        mesh.await_ready(node.state, node.place, role)


def test_agent_and_tunnel_away(faulty: Mesh, client: Resident, direct: list[int]) -> None:
    """Nothing passes in the clear, not even to a pod outside; then both come back, the tunnel first."""
    node = faulty.lab.node("node1")
    kill(node, "agent", "tunnel")
    assert client.call(sockets.echoing, direct) == DIRECT
    for pod in ("far", "outside"):
        assert client.call(attempt, (faulty.address(pod, 4), PORT))[0] == "ECONNREFUSED"
    start(node, "tunnel", "agent")
    assert reaches(faulty, "far")
    assert client.call(sockets.echoing, direct) == DIRECT


def test_authority_and_agent_away(faulty: Mesh, client: Resident) -> None:
    """What is there goes on: connections, new ones, their certificates."""
    node, to = faulty.lab.node("node1"), (faulty.address("far", 4), PORT)
    kept = client.call(sockets.connect_many, to, 3)
    kill(node, "ca", "agent")
    try:
        assert client.call(sockets.echoing, kept) == 3
        assert reaches(faulty, "far")
    finally:
        start(node, "ca", "agent")
    client.call(sockets.forget_all, kept)


def test_authority_and_tunnel_away(faulty: Mesh, client: Resident, direct: list[int]) -> None:
    """A tunnel that starts without the authority has no certificates: it lets nobody through until it has."""
    node, to = faulty.lab.node("node1"), (faulty.address("far", 4), PORT)
    kill(node, "ca", "tunnel")
    mesh.start(node.state, node.place, "tunnel")
    try:
        until(lambda: "certificate" in readiness(node), what="it says that it waits for certificates")
        assert not client.call(sockets.comes_back, to, b"anybody?")
        assert client.call(sockets.echoing, direct) == DIRECT
    finally:
        start(node, "ca")
        mesh.await_ready(node.state, node.place, "tunnel")
    until(lambda: reaches(faulty, "far"), what="the pod is reached again")


def test_another_node_is_cut_off(faulty: Mesh, client: Resident) -> None:
    """For its peers alone: pods of the same node are reached, what is open waits, and goes on."""
    node, other = faulty.lab.nodes
    to, link = (faulty.address("far", 4), PORT), node.link_to(other)
    kept = client.call(sockets.connect_many, to, 3)
    chain = f'chain in {{ type filter hook prerouting priority 0; iifname "{link}" drop; }}'
    node.run(["nft", "-f", "-"], input=f"table inet cut {{ {chain}; }}\n")
    try:
        assert client.call(sockets.is_unanswered, to, 1.0)
        assert reaches(faulty, "near")
    finally:
        node.run(["nft", "delete", "table", "inet", "cut"])
    until(lambda: reaches(faulty, "far"), what="the other node is reached again")
    assert client.call(sockets.echoing, kept) == 3
    client.call(sockets.forget_all, kept)


def test_a_pod_goes_while_it_connects(faulty: Mesh, tmp_path: Path) -> None:
    """Its namespace with it: each attempt ends and is told, and the tunnel serves the others."""
    node, manifest = faulty.lab.node("node1"), tmp_path / "passing.yaml"
    manifest.write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: passing},"
        " spec: {nodeName: node1, serviceAccountName: a, containers: [{name: a}]}}\n"
    )
    to = (faulty.address("far", 4), FULL)
    listener = faulty.inside("far").call(attempts.listen_full, to)
    begin = node.log("tunnel").stat().st_size
    [pod] = faulty.lab.apply([manifest])
    passing = faulty.inside("passing")
    waiting = [passing.call(sockets.begin, to) for _ in range(ATTEMPTS)]
    kept = passing.call(sockets.connect_many, (to[0], PORT), ATTEMPTS)
    assert not passing.call(sockets.settled, waiting[-1], 0.1)
    faulty.leave("passing")
    faulty.lab.delete(pod)

    def told() -> bool:
        lines = node.log("tunnel").read_text()[begin:].splitlines()
        return all(sum(f":{port}\t" in line for line in lines) >= len(those) for port, those in ended.items())

    ended = {FULL: waiting, PORT: kept}
    until(told, what="each of its connections is told as ended")
    assert reaches(faulty, "far")
    faulty.inside("far").call(sockets.forget, listener)


def readiness(node: Node) -> str:
    return node.run(["curl", "-s", "http://127.0.0.1:15021/healthz/ready"], check=False).stdout
