"""The redirection with real connections: two captured pods, one outside, and a stand-in for the tunnel."""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node import routing
from agent.node.state import Cookie
from bpf.pins import Pins
from tests.support import application, standin
from tests.support.application import IPPROTO_MPTCP, MPTCP, Address, Call
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage
from tests.support.standin import INBOUND, OUTBOUND, Seen
from tests.support.wait import until

PORT = 8080
Counted = Callable[[], dict[str, int]]


@dataclass
class World:
    """`client` and `server` are captured, `outside` is not; a server listens on PORT in each."""

    client: Pod
    server: Pod
    outside: Pod
    on_client: Resident
    on_outside: Resident
    tunnel: Resident
    cookie: Cookie  # the client's

    def seen(self) -> list[Seen]:
        return self.tunnel.call(standin.seen)


@pytest.fixture(scope="module")
def world(stage: Stage) -> World:
    client, server, outside = (stage.pod() for _ in range(3))
    on_client, on_server, on_outside = (stage.application(pod) for pod in (client, server, outside))
    cookies = [stage.prepare(pod) for pod in (client, server)]
    tunnel = stage.tunnel(client, server)
    for pod, cookie in zip((client, server), cookies, strict=True):
        stage.datapath.capture(pod.netns, cookie)
    for name, resident in (("client", on_client), ("server", on_server), ("outside", on_outside)):
        resident.call(application.serve, name, PORT)
    return World(client, server, outside, on_client, on_outside, tunnel, cookies[0])


@pytest.fixture(autouse=True)
def quiet(world: World) -> None:
    """The connections of the test before are over."""
    until(lambda: world.tunnel.call(standin.idle), what="the tunnel is idle")
    world.seen()


@pytest.fixture
def counted(quiet: None, counted: Counted) -> Counted:
    return counted


KINDS: dict[str, Callable[[Pod], Call]] = {
    "v4": lambda to: Call((str(to.v4), PORT)),
    "v6": lambda to: Call((str(to.v6), PORT)),
    "v4-mapped": lambda to: Call((f"::ffff:{to.v4}", PORT), family=socket.AF_INET6),
    "mptcp v4": lambda to: Call((str(to.v4), PORT), protocol=IPPROTO_MPTCP),
    "mptcp v6": lambda to: Call((str(to.v6), PORT), protocol=IPPROTO_MPTCP),
    "fast open v4": lambda to: Call((str(to.v4), PORT), fast_open=True),
    "fast open v6": lambda to: Call((str(to.v6), PORT), fast_open=True),
    "bound to a device": lambda to: Call((str(to.v4), PORT), device="eth0"),
    "bound to a device v6": lambda to: Call((str(to.v6), PORT), device="eth0"),
    "bound to a port": lambda to: Call((str(to.v4), PORT), bind=("", 21234)),
    "with the tunnel's mark": lambda to: Call((str(to.v4), PORT), mark=routing.MARK),
}


@contextmanager
def narrow(pod: Pod, ports: str) -> Iterator[None]:
    """The pod's range of ephemeral ports is this one."""
    setting = Path("/proc/sys/net/ipv4/ip_local_port_range")
    before = pod.netns.run(setting.read_text)
    pod.netns.run(lambda: setting.write_text(ports))
    try:
        yield
    finally:
        pod.netns.run(lambda: setting.write_text(before))


def plain(address: Address) -> Address:
    return address[0].removeprefix("::ffff:"), address[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if MPTCP or "mptcp" not in kind])
def test_connection_goes_through_both_tunnels(world: World, counted: Counted, kind: str) -> None:
    call = KINDS[kind](world.server)
    outcome = world.on_client.call(application.call, call)
    own = str(world.client.v6 if ":" in plain(call.to)[0] else world.client.v4)

    assert (outcome.error, outcome.server) == (0, "server")
    assert outcome.peer == plain(call.to)
    assert outcome.local[0] == own
    assert outcome.client[0] == own  # the server sees the true client
    outbound, inbound = world.seen()
    assert (outbound.port, outbound.wanted) == (OUTBOUND, plain(call.to))
    assert outbound.peer[1] == outcome.local[1]
    assert (inbound.port, inbound.wanted, inbound.peer[0]) == (INBOUND, plain(call.to), own)
    given = counted()
    # What arrives is counted by packet: a segment that the kernel sends again is decided on again.
    assert given.pop("inbound_steered") >= 1
    # To the tunnel's listener for what leaves, and the delivery: told by its addresses before Linux 5.17.
    assert given.pop("inbound_loopback") + given.pop("inbound_delivery", 0) >= 2
    assert given == {"connect_captured": 1, "handover_done": 1, "connect_tunnel": 1, "connect_delivery": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_socket_bound_to_the_pods_address(world: World, version: int) -> None:
    own = str(world.client.v4 if version == 4 else world.client.v6)
    to = (str(world.server.v4 if version == 4 else world.server.v6), PORT)
    outcome = world.on_client.call(application.call, Call(to, bind=(own, 21235)))
    assert (outcome.server, outcome.local) == ("server", (own, 21235))
    assert world.seen()[0] == Seen(OUTBOUND, (own, 21235), to)


def test_two_sockets_may_share_a_port_on_two_addresses(world: World) -> None:
    """What is handed over is told apart by the source address too."""
    for own in (str(world.client.v4), "127.0.0.1"):
        to = (str(world.server.v4), PORT)
        assert world.on_client.call(application.call, Call(to, bind=(own, 21236))).server == "server"
        assert world.seen()[0] == Seen(OUTBOUND, (own, 21236), to)


@pytest.mark.parametrize("version", [4, 6])
def test_pod_that_calls_its_own_address_needs_no_tunnel(world: World, counted: Counted, version: int) -> None:
    own = str(world.client.v4 if version == 4 else world.client.v6)
    outcome = world.on_client.call(application.call, Call((own, PORT)))
    assert (outcome.server, outcome.client[0], outcome.peer) == ("client", own, (own, PORT))
    assert world.seen() == []
    given = counted()
    assert given.pop("inbound_own") >= 1
    assert given == {"connect_own": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_one_source_port_serves_a_connection_to_each_destination(world: World, version: int) -> None:
    pods = [world.server, world.outside]
    to = [(str(pod.v4 if version == 4 else pod.v6), PORT) for pod in pods]
    assert world.on_client.call(application.calls_from, 21237, to) == to
    assert [(seen.peer[1], seen.wanted) for seen in world.seen() if seen.port == OUTBOUND] == [
        (21237, one) for one in to
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_all_source_ports_are_there_for_each_destination(world: World, version: int) -> None:
    """As many as there are, for two destinations: so none is left for the other if they share them."""
    pods = [world.server, world.outside]
    to = [(str(pod.v4 if version == 4 else pod.v6), PORT) for pod in pods]
    with narrow(world.client, "50000 50063"):
        opened = world.on_client.call(application.calls_at_once, to, 60)
    assert opened == [60, 60]
    arrivals(world, 2 * 60)


@pytest.mark.parametrize("to", ["127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::"])
def test_loopback_is_not_redirected(world: World, counted: Counted, to: str) -> None:
    outcome = world.on_client.call(application.call, Call((to, PORT)))
    assert outcome.server == "client"
    assert world.seen() == []
    assert counted() == {"connect_loopback": 1, "inbound_loopback": 1}


def test_pod_reaches_what_is_outside(world: World) -> None:
    to = (str(world.outside.v4), PORT)
    outcome = world.on_client.call(application.call, Call(to))
    assert (outcome.server, outcome.client[0], outcome.peer) == ("outside", str(world.client.v4), to)
    assert [seen.port for seen in world.seen()] == [OUTBOUND]


@pytest.mark.parametrize("version", [4, 6])
def test_what_comes_from_outside_is_steered(world: World, version: int) -> None:
    to = str(world.server.v4 if version == 4 else world.server.v6)
    own = str(world.outside.v4 if version == 4 else world.outside.v6)
    outcome = world.on_outside.call(application.call, Call((to, PORT)))
    assert (outcome.server, outcome.client[0], outcome.local[0]) == ("server", own, own)
    assert [(seen.port, seen.wanted) for seen in world.seen()] == [(INBOUND, (to, PORT))]


@pytest.mark.parametrize("version", [4, 6])
def test_tunnel_is_refused_at_once_where_nobody_listens(world: World, version: int) -> None:
    """The kernel's reset comes back to the tunnel, and does not go to the client whose address it bears."""
    to = (str(world.server.v4 if version == 4 else world.server.v6), 9)
    began = time.monotonic()
    assert world.on_outside.call(application.call, Call(to)).server == ""
    assert time.monotonic() - began < 4  # else it would take the five seconds of the call
    assert [(seen.port, seen.wanted) for seen in world.seen()] == [(INBOUND, to)]


def test_hbone_reaches_its_own_listener(world: World, counted: Counted) -> None:
    outcome = world.on_outside.call(application.call, Call((str(world.server.v4), standin.HBONE)))
    assert outcome.server == "tunnel1"
    assert counted() == {"inbound_hbone": 1}


def test_address_that_the_agent_does_not_know_is_refused(
    world: World, stage: Stage, counted: Counted
) -> None:
    stage.datapath.prepare(world.server.netns, [world.server.v6])
    outcome = world.on_outside.call(application.call, Call((str(world.server.v4), PORT)))
    stage.datapath.prepare(world.server.netns, world.server.addresses)
    assert outcome.error == errno.ECONNREFUSED
    assert counted() == {"inbound_refused_address": 1}


def arrivals(world: World, number: int) -> list[Seen]:
    """The tunnel's next connections, that many."""
    arrived: list[Seen] = []

    def complete() -> bool:
        arrived.extend(world.seen())
        return len(arrived) >= number

    until(complete, what=f"{number} connections at the tunnel")
    return arrived


def test_client_that_closes_at_once_is_still_delivered(world: World) -> None:
    to = (str(world.outside.v4), PORT)
    assert set(world.on_client.call(application.calls, to, 50, b"x")) == {0}
    assert {seen.wanted for seen in arrivals(world, 50)} == {to}


def test_nothing_is_left_of_short_connections(world: World, stage: Stage) -> None:
    to = (str(world.outside.v4), PORT)
    assert set(world.on_client.call(application.calls, to, 1000, b"x")) == {0}
    assert len(arrivals(world, 1000)) == 1000
    original = Pins(stage.bpffs / "warren").map("original")
    assert original is not None
    assert list(original) == []


def test_a_delivery_that_is_there_is_announced_no_more(world: World, stage: Stage) -> None:
    """Before Linux 5.17 it is announced first. A client may take that port later, and passes for nobody."""
    announced = Pins(stage.bpffs / "warren").map("announced")
    assert announced is not None
    world.on_client.call(application.open_echo, (str(world.server.v4), PORT))
    try:
        assert world.on_client.call(application.echo, b"there") == b"there"
        assert list(announced) == []
    finally:
        world.on_client.call(application.close_echo)


def test_socket_that_is_used_again_forgets_its_first_peer(world: World) -> None:
    peer = world.on_client.call(application.reconnect, (str(world.server.v4), PORT), ("127.0.0.1", PORT))
    assert peer == ("127.0.0.1", PORT)
    arrivals(world, 2)  # of the first connection, at both tunnels


def test_udp_is_not_touched(world: World, counted: Counted) -> None:
    to = (str(world.server.v4), 53)
    assert world.on_client.call(application.udp, to) == to
    assert counted() == {}


def test_pod_outside_is_not_touched(world: World, counted: Counted) -> None:
    outcome = world.on_outside.call(application.call, Call((str(world.outside.v4), PORT)))
    assert outcome.server == "outside"
    assert world.seen() == []
    assert counted() == {}


def test_pod_may_not_take_the_tunnels_ports(world: World, counted: Counted) -> None:
    for port in (OUTBOUND, INBOUND, standin.HBONE):
        with pytest.raises(PermissionError):
            world.on_client.call(application.bind, port)
    assert counted() == {"bind_refused_reserved": 3}
    world.on_outside.call(application.bind, INBOUND)  # there it is a port like any other


def test_pod_that_calls_the_tunnels_port_itself_has_no_original_destination(
    world: World, counted: Counted
) -> None:
    world.on_client.call(application.calls, ("127.0.0.1", OUTBOUND), 1)
    (seen,) = until(world.seen)
    assert seen.wanted is None
    assert counted()["handover_unknown"] == 1


def test_the_tunnels_marks_are_ours(world: World) -> None:
    """A mark of its own, like ztunnel's, would be routed by nobody's rules."""
    foreign, own = 1337, str(world.client.v4)
    cases = {
        (own, PORT): routing.MARK,
        (own, standin.HBONE): 0,
        (str(world.server.v4), PORT): 0,
        ("127.0.0.1", PORT): 0,
    }
    for to, mark in cases.items():
        assert world.tunnel.call(standin.connect_from, world.client.path, to, foreign) == mark


def test_application_sees_errors_of_its_own_making(world: World) -> None:
    """What the kernel refuses without us, it refuses with us."""
    outcome = world.on_client.call(application.call, Call(("127.0.0.1", 9)))
    assert outcome.error == errno.ECONNREFUSED
