"""connect() tells the truth: it fails where nobody would take the connection, and waits for who is slow."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.mesh.conftest import Mesh, in_force
from tests.mesh.test_egress import applied as egress
from tests.mesh.test_egress import sidecar, unknown
from tests.mesh.test_policy import authorization, principal
from tests.mesh.test_traffic import FAMILIES
from tests.support import attempts, sockets
from tests.support.attempts import attempt
from tests.support.resident import Resident
from tests.support.wait import PATIENCE, until

PORT, CLOSED, V4_ONLY, FULL, LATE, FLEETING = 7400, 7401, 7402, 7403, 7404, 7405
TARGETS = pytest.mark.parametrize("target", ["near", "far", "outside"])
LONG = 12.0  # seconds; the tunnel's own attempts would have ended before
AT_ONCE = 5.0  # seconds, on a machine that is busy with other things; the next SYN would be sent after one


@pytest.fixture(scope="module", autouse=True)
def serving(mesh: Mesh) -> None:
    for pod in ("near", "far", "outside"):
        mesh.inside(pod).call(sockets.serve, PORT)


@dataclass
class Slow:
    """A connection that nobody accepts, until then at least."""

    to: sockets.Address
    listener: int
    number: int
    until: float


@pytest.fixture(scope="module", autouse=True)
def slow(mesh: Mesh) -> dict[str, Slow]:
    """One to each pod: they wait while other tests go on."""
    found = {}
    for target in ("near", "far", "outside"):
        to = (mesh.address(target, 4), FULL)
        listener = mesh.inside(target).call(attempts.listen_full, to)
        number = mesh.inside("a").call(sockets.begin, to)
        found[target] = Slow(to, listener, number, time.monotonic() + LONG)
    return found


@pytest.fixture
def client(mesh: Mesh) -> Resident:
    return mesh.inside("a")


class Log:
    """What a node's tunnel writes from now on."""

    def __init__(self, mesh: Mesh, node: str) -> None:
        self._path = mesh.lab.node(node).log("tunnel")
        self._begin = self._path.stat().st_size

    def tells(self, *parts: str) -> None:
        """Waits for a line that has all of this."""

        def told() -> bool:
            lines = self._path.read_text()[self._begin :].splitlines()
            return any(all(part in line for part in parts) for line in lines)

        until(told, what=f"the access log tells of {parts}")


@FAMILIES
@TARGETS
def test_a_port_on_which_nobody_listens_is_refused(
    mesh: Mesh, client: Resident, target: str, family: int
) -> None:
    """Asked again, too, and counted and logged as ever."""
    log = Log(mesh, "node1")
    to = (mesh.address(target, family), CLOSED)
    for _ in range(2):
        error, seconds = client.call(attempt, to)
        assert (error, seconds < AT_ONCE) == ("ECONNREFUSED", True)
    log.tells(f":{CLOSED}", "direction=outbound", "response_flags=CONNECT")
    assert client.call(attempt, (to[0], PORT))[0] == ""


@pytest.mark.parametrize("target", ["near", "far"])
def test_an_application_of_one_family_is_found_by_it(mesh: Mesh, client: Resident, target: str) -> None:
    """A client that goes through a name's addresses comes to the one that works."""
    mesh.inside(target).call(attempts.listen_v4, ("0.0.0.0", V4_ONLY))
    assert client.call(attempt, (mesh.address(target, 6), V4_ONLY))[0] == "ECONNREFUSED"
    assert client.call(attempt, (mesh.address(target, 4), V4_ONLY))[0] == ""


@FAMILIES
@pytest.mark.parametrize("target", ["near", "far"])
def test_a_pair_that_policy_denies_is_refused_and_logged(
    mesh: Mesh, client: Resident, target: str, family: int
) -> None:
    log, there = Log(mesh, "node1"), Log(mesh, "node1" if target == "near" else "node2")
    to = (mesh.address(target, family), CLOSED)
    deny = authorization(
        "nobody",
        action="DENY",
        rules=[{"from": [{"source": {"principals": [principal("a")]}}]}],
        selector={"matchLabels": {"app": target}},
    )
    with in_force(mesh, [deny], lambda: not client.call(attempt, (to[0], PORT))[0], "it is allowed again"):
        until(lambda: client.call(attempt, (to[0], PORT))[0] == "ECONNREFUSED", what="it is denied")
        assert client.call(attempt, to)[0] == "ECONNREFUSED"
        log.tells("reason=peer_denied", f":{CLOSED}")
        there.tells("reason=policy_denied", f":{CLOSED}")


@pytest.fixture
def beyond(mesh: Mesh) -> Iterator[None]:
    """A server that the mesh does not know: on the other node itself."""
    with closing(Resident(mesh.lab.pod("outside").cgroup, mesh.lab.node("node2").netns)) as resident:
        resident.call(sockets.serve, unknown(4)[1])
        yield


@FAMILIES
@pytest.mark.usefixtures("beyond")
def test_what_may_not_leave_the_mesh_is_refused(mesh: Mesh, client: Resident, family: int) -> None:
    def told(error: str) -> bool:
        return client.call(attempt, unknown(family))[0] == error

    until(lambda: told(""), what="it may leave")
    with egress(mesh, sidecar("default", "REGISTRY_ONLY")):
        until(lambda: told("ECONNREFUSED"), what="it may not any more")
        assert client.call(attempt, (mesh.address("far", family), PORT))[0] == ""
    until(lambda: told(""), what="it may leave again")


@FAMILIES
def test_a_client_outside_the_mesh_is_told_of_it_as_well(mesh: Mesh, family: int) -> None:
    """By a reset at the latest: the kernel accepts before the tunnel can ask the application (README)."""
    log = Log(mesh, "node1")
    assert mesh.inside("outside").call(sockets.is_reset, (mesh.address("a", family), CLOSED))
    log.tells("direction=inbound", "reason=connect_failed", f":{CLOSED}")


@pytest.mark.parametrize("address", ["203.0.113.1", "2001:db8:f::1"])
def test_what_cannot_be_reached_is_told_as_the_kernel_tells_it(client: Resident, address: str) -> None:
    assert client.call(attempt, (address, PORT))[0] == "ENETUNREACH"


@FAMILIES
def test_a_port_that_a_service_does_not_have_is_refused(mesh: Mesh, client: Resident, family: int) -> None:
    log = Log(mesh, "node1")
    assert client.call(attempt, (mesh.service("far", family), 81))[0] == "ECONNREFUSED"
    log.tells("reason=unknown_port", ":81")


@TARGETS
def test_a_server_that_is_slow_to_accept_is_waited_for(
    mesh: Mesh, client: Resident, slow: dict[str, Slow], target: str
) -> None:
    """Longer than any limit of ours, but not longer than the client waits."""
    server, it = mesh.inside(target), slow[target]
    assert not client.call(sockets.settled, it.number, max(0.0, it.until - time.monotonic()))
    server.call(sockets.accept, it.listener)
    assert client.call(sockets.settled, it.number, PATIENCE)
    assert client.call(sockets.peer, it.number) == it.to
    server.call(sockets.accept, it.listener)
    for resident, kept in ((client, it.number), (server, it.listener)):
        resident.call(sockets.forget, kept)


def test_who_gives_up_is_not_waited_for(mesh: Mesh, client: Resident) -> None:
    log = Log(mesh, "node1")
    to = (mesh.address("far", 4), LATE)
    listener = mesh.inside("far").call(attempts.listen_full, to)
    assert client.call(attempt, to, 0.3)[0] == "patience"
    log.tells("reason=given_up", f":{LATE}")
    mesh.inside("far").call(sockets.forget, listener)


@pytest.mark.parametrize("target", ["near", "far"])
def test_what_has_answered_is_refused_when_it_does_not_any_more(
    mesh: Mesh, client: Resident, target: str
) -> None:
    """The first time at the latest when the connection is used."""
    to = (mesh.address(target, 4), FLEETING)
    listener = mesh.inside(target).call(sockets.listen, FLEETING)
    for _ in range(3):
        assert client.call(attempt, to)[0] == ""
    mesh.inside(target).call(sockets.close, listener)
    assert client.call(sockets.is_reset, to)
    assert client.call(attempt, to)[0] == "ECONNREFUSED"
    listener = mesh.inside(target).call(sockets.listen, FLEETING)
    assert client.call(attempt, to)[0] == ""
    mesh.inside(target).call(sockets.close, listener)


def test_a_tunnel_that_is_killed_leaves_what_waits_to_the_next_one(mesh: Mesh, client: Resident) -> None:
    """The keeper starts it, and keeps meanwhile what the kernel has applications wait for."""
    to = (mesh.address("far", 4), LATE)
    server, node = mesh.inside("far"), mesh.lab.node("node1")
    listener = server.call(attempts.listen_full, to)
    number = client.call(sockets.begin, to)
    *_, tunnel = node.pids("tunnel")  # its keeper is first
    os.kill(tunnel, signal.SIGKILL)
    server.call(sockets.make_room, listener, 8)  # what the killed one has asked for may take a place
    assert client.call(sockets.settled, number, PATIENCE)
    assert client.call(sockets.peer, number) == to
