"""Agents that are killed under load, and come back: no connection notices."""

from tests.mesh.conftest import Mesh
from tests.support import sockets

PORT = 7300
KEPT = 50
ROUNDS = 3


def test_an_agent_that_is_killed_under_load_disturbs_nobody(mesh: Mesh) -> None:
    client = mesh.inside("a")
    for pod in ("near", "far"):
        mesh.inside(pod).call(sockets.serve, PORT)
    targets = [(mesh.address(pod, family), PORT) for pod in ("near", "far") for family in (4, 6)]
    kept = [number for to in targets for number in client.call(sockets.connect_many, to, KEPT)]
    calling = [client.call(sockets.keep_calling, to) for to in targets]
    for _ in range(ROUNDS):
        for node in mesh.lab.nodes:
            node.stop("agent", within=0)
            node.start("agent")
    for number in calling:
        good, errors = client.call(sockets.calls_made, number)
        assert errors == []
        assert good > 10 * ROUNDS
    assert client.call(sockets.echoing, kept) == len(kept)
    client.call(sockets.forget_all, kept)
