"""A node's agent and tunnel are replaced while its pods are busy: no connection is refused or cut short."""

import os
import signal
from collections.abc import Iterator

import pytest

from agent.lab import Lab
from agent.lab.members import Node
from tests.mesh import succession
from tests.mesh.conftest import PODS, Mesh
from tests.support import sockets
from tests.support.wait import until

PORT = 7400


@pytest.fixture(scope="module")
def upgraded() -> Iterator[Mesh]:
    with Lab.up([PODS], name=f"wt-upgrade-{os.getpid()}") as lab:
        found = Mesh(lab, {})
        yield found
        found.close()


def succeed(node: Node) -> None:
    """Start successors beside a node's agent and tunnel, wait until they are ready, end the old ones."""
    old = succession.start(node, "agent", "tunnel")
    for pid in (*old["agent"], *old["tunnel"]):
        os.kill(pid, signal.SIGTERM)
    for role, pids in old.items():
        until(lambda: not set(pids) & set(node.pids(role)), what=f"the old {role} ends")  # noqa: B023


def test_an_upgrade_refuses_nothing(upgraded: Mesh) -> None:
    client = upgraded.inside("a")
    for pod in ("near", "far"):
        upgraded.inside(pod).call(sockets.serve, PORT)
    calling = [
        client.call(sockets.keep_calling, (upgraded.address(pod, family), PORT))
        for pod in ("near", "far")
        for family in (4, 6)
    ]
    for node in upgraded.lab.nodes:
        succeed(node)
    for number in calling:
        good, errors = client.call(sockets.calls_made, number)
        assert errors == []
        assert good > 20
