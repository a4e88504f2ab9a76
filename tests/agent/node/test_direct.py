"""Direct connections as the kernel treats them: straight where the tunnel has said so, and in no other case.

The tunnel's word is written by the tests themselves; that ours says the right thing is shown in tests/mesh.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest
from pyroute2 import IPRoute

from agent.node.state import Cookie
from bpf.pins import Pins
from tests.agent.node.test_probes import (
    always_send_cookies,
    believe_forgeries,
    connect_and_reset,
    give_up,
    send_syn,
)
from tests.support import application, standin
from tests.support.allowing import IP, Allowing
from tests.support.application import IPPROTO_MPTCP, MPTCP, Call
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage
from tests.support.standin import OUTBOUND
from tests.support.wait import until

PORT, OTHER, DEAF = 8080, 8081, 8082
Counted = Callable[[], dict[str, int]]
FAMILIES = pytest.mark.parametrize("version", [4, 6])


@dataclass
class World:
    """Three captured pods and one that is not, with a server on PORT and OTHER in `server`."""

    client: Pod
    server: Pod
    third: Pod
    outside: Pod
    on: dict[str, Resident]
    cookies: dict[str, Cookie]
    tunnel: Resident
    allowing: Allowing

    def address(self, name: str, version: int = 4) -> IP:
        pod: Pod = getattr(self, name)
        return IPv4Address(pod.v4) if version == 4 else IPv6Address(pod.v6)

    def allow(self, version: int = 4, asked: tuple[IP, int] | None = None, owner: str = "server") -> None:
        """Of `client` to the server's PORT, maybe by another name."""
        to = (self.address("server", version), PORT)
        names = self.cookies["client"], asked or to, self.cookies[owner], to
        self.allowing.allow(*names, self.address("client", version))

    def call(self, source: str, how: Call) -> application.Outcome:
        outcome: application.Outcome = self.on[source].call(application.call, how)
        return outcome

    def ports(self) -> list[int]:
        """At which the tunnel has got connections since the last call."""
        return [seen.port for seen in self.tunnel.call(standin.seen)]


@pytest.fixture(scope="module")
def world(stage: Stage) -> World:
    pods = {name: stage.pod() for name in ("client", "server", "third", "outside")}
    on = {name: stage.application(pod) for name, pod in pods.items()}
    cookies = {name: stage.enrol(pod) for name, pod in pods.items() if name != "outside"}
    tunnel = stage.tunnel(*(pods[name] for name in cookies))
    for port in (PORT, OTHER):
        on["server"].call(application.serve, "server", port)
    return World(
        **pods, on=on, cookies=cookies, tunnel=tunnel, allowing=Allowing(Pins(stage.bpffs / "warren"))
    )


@pytest.fixture(autouse=True)
def quiet(world: World) -> Iterator[None]:
    """Nothing is allowed before a test but what it allows itself, and nothing is announced after it."""
    until(lambda: world.tunnel.call(standin.idle), what="the tunnel is idle")
    world.ports()
    world.allowing.generation(world.allowing._now + 1)
    yield
    until(lambda: list(world.allowing.announced) == [], what="nothing is announced any more")


@pytest.fixture
def counted(quiet: None, counted: Counted) -> Counted:
    return counted


KINDS: dict[str, tuple[int, Callable[[Pod], Call]]] = {
    "v4": (4, lambda to: Call((str(to.v4), PORT))),
    "v6": (6, lambda to: Call((str(to.v6), PORT))),
    "v4-mapped": (4, lambda to: Call((f"::ffff:{to.v4}", PORT), family=socket.AF_INET6)),
    "mptcp": (4, lambda to: Call((str(to.v4), PORT), protocol=IPPROTO_MPTCP)),
    "fast open": (6, lambda to: Call((str(to.v6), PORT), fast_open=True)),
    "bound port": (4, lambda to: Call((str(to.v4), PORT), bind=("", 21400))),
    "device": (4, lambda to: Call((str(to.v4), PORT), device="eth0")),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if MPTCP or "mptcp" not in kind])
def test_allowed_connection_goes_straight(world: World, counted: Counted, kind: str) -> None:
    version, how = KINDS[kind]
    world.allow(version)
    outcome = world.call("client", how(world.server))
    assert (outcome.error, outcome.server) == (0, "server")
    assert outcome.client == outcome.local  # nothing has been changed on the way
    assert outcome.client[0] == str(world.address("client", version))
    assert outcome.peer == (str(world.address("server", version)), PORT)
    assert world.ports() == []
    given = counted()
    assert given.pop("inbound_direct") >= 1
    given.pop("inbound_steered", 0)  # a late segment of a connection before, on a slow machine
    assert given == {"connect_direct": 1, "direct_announced": 1}


@FAMILIES
def test_service_leads_straight_to_its_only_pod(
    world: World, stage: Stage, counted: Counted, version: int
) -> None:
    service = (IPv4Address("10.96.0.7") if version == 4 else IPv6Address("fd00:10:96::7"), 80)
    world.allow(version, asked=service)
    outcome = world.call("client", Call((str(service[0]), service[1])))
    assert (outcome.error, outcome.server, world.ports()) == (0, "server", [])
    assert outcome.peer == (str(service[0]), service[1])
    assert (outcome.client[0], outcome.client) == (str(world.address("client", version)), outcome.local)
    assert counted()["inbound_direct"] == 1
    original = Pins(stage.bpffs / "warren").map("original")
    assert original is not None
    assert list(original) == []  # no tunnel will ever ask where it was to go


def goes_through(world: World, source: str, how: Call) -> bool:
    """Whether a call takes the way through the tunnel, and arrives."""
    outcome = world.call(source, how)
    assert (outcome.error, outcome.server) == (0, "server")
    return world.ports()[:1] == [OUTBOUND]


@FAMILIES
def test_nobody_else_and_nothing_else_is_meant(world: World, counted: Counted, version: int) -> None:
    """Neither another pod's connection nor one to another port."""
    world.allow(version)
    to = str(world.address("server", version))
    assert goes_through(world, "third", Call((to, PORT)))
    assert goes_through(world, "client", Call((to, OTHER)))
    assert "connect_direct" not in counted()


def test_word_of_another_generation_does_not_count(world: World, counted: Counted) -> None:
    world.allow()
    world.allowing.generation(world.allowing._now + 1)
    assert goes_through(world, "client", Call((str(world.server.v4), PORT)))
    assert "connect_direct" not in counted()


def test_address_that_is_another_pods_by_now(world: World, counted: Counted) -> None:
    world.allow(owner="third")
    assert goes_through(world, "client", Call((str(world.server.v4), PORT)))
    assert "connect_direct" not in counted()


def test_word_that_is_taken_back(world: World) -> None:
    world.allow()
    to = (world.address("server"), PORT)
    assert not goes_through(world, "client", Call((str(to[0]), PORT)))
    world.allowing.deny(world.cookies["client"], to)
    assert goes_through(world, "client", Call((str(to[0]), PORT)))


def take_address(address: str) -> None:
    """Make another's address one's own."""
    with IPRoute() as route:
        route.addr("add", index=route.link_lookup(ifname="eth0")[0], address=address, prefixlen=32)


def give_address_back(address: str) -> None:
    with IPRoute() as route:
        route.addr("del", index=route.link_lookup(ifname="eth0")[0], address=address, prefixlen=32)


def test_forged_source_address_that_is_bound(world: World, counted: Counted) -> None:
    """The pod may connect, in its own name and in nobody else's."""
    world.allow()
    forged = str(world.third.v4)
    world.client.netns.run(lambda: take_address(forged))
    how = Call((str(world.server.v4), PORT), bind=(forged, 0))
    world.call("client", how)
    world.client.netns.run(lambda: give_address_back(forged))
    given = counted()
    assert given["connect_captured"] == 1
    assert "connect_direct" not in given


def test_forged_source_address_that_is_routed(world: World, stage: Stage, counted: Counted) -> None:
    """Found out when the source is chosen: then nobody announces it, and it is anybody's plain connection."""
    world.allow()
    forged, server = str(world.third.v4), str(world.server.v4)
    world.client.netns.run(lambda: take_address(forged))
    world.client.netns.run(lambda: route_from(forged, server))
    world.on["client"].call(give_up, (server, PORT))
    given = until(counted, what="the connection is judged")
    world.client.netns.run(lambda: unroute(server))
    world.client.netns.run(lambda: give_address_back(forged))
    assert (given["connect_direct"], given["direct_withdrawn"]) == (1, 1)
    assert "inbound_direct" not in given


def route_from(source: str, to: str) -> None:
    """Have connections to `to` come from `source`, by the way that they take already."""
    with IPRoute() as route:
        routes = route.get_default_routes(family=socket.AF_INET)
        [default] = [one for one in routes if one.get_attr("RTA_GATEWAY")]
        route.route("add", dst=f"{to}/32", gateway=default.get_attr("RTA_GATEWAY"),
                    oif=default.get_attr("RTA_OIF"), prefsrc=source, flags=4)  # fmt: skip


def unroute(to: str) -> None:
    with IPRoute() as route:
        route.route("del", dst=f"{to}/32")


@FAMILIES
def test_port_of_a_direct_connection_that_has_ended(world: World, counted: Counted, version: int) -> None:
    """The word is gone, and the same port is used again: it is not let in."""
    world.allow(version)
    to = (str(world.address("server", version)), PORT)
    world.on["client"].call(connect_and_reset, to, 21401)
    assert (counted()["inbound_direct"], world.ports()) == (1, [])
    until(lambda: list(world.allowing.announced) == [], what="it is over")
    world.allowing.deny(world.cookies["client"], (world.address("server", version), PORT))
    assert goes_through(world, "client", Call(to, bind=("", 21401)))
    assert "inbound_direct" not in counted()


@pytest.mark.parametrize("forger", ["third", "outside", "client"])
def test_forged_segment_in_the_name_of_an_allowed_pod(
    world: World, stage: Stage, counted: Counted, forger: str
) -> None:
    """Made by hand, past every hook, also by the pod itself: of a connection that has ended, and of none."""
    stage.node.router.run(believe_forgeries)
    world.allow()
    to = (str(world.server.v4), PORT)
    world.on["client"].call(connect_and_reset, to, 21402)
    until(lambda: list(world.allowing.announced) == [], what="it is over")
    counted()
    for port in (21402, 21403):
        world.on[forger].call(send_syn, (str(world.client.v4), port), to)
        given = until(counted, what="the forged segment arrives")
        assert set(given) == {"inbound_steered"}  # as is the answer, which the true client knows nothing of


def test_forged_segment_beside_a_connection_that_is_open(
    world: World, stage: Stage, counted: Counted
) -> None:
    """From another port of an allowed pod's: what is announced is one connection, not all of the pair."""
    stage.node.router.run(believe_forgeries)
    world.allow()
    to = (str(world.server.v4), PORT)
    world.on["client"].call(application.open_echo, to)
    counted()
    world.on["third"].call(send_syn, (str(world.client.v4), 21404), to)
    given = until(counted, what="the forged segment arrives")
    world.on["client"].call(application.close_echo)
    assert set(given) == {"inbound_steered"}


def test_without_a_tunnel_at_the_other_end_it_is_refused(
    stage: Stage, world: World, counted: Counted
) -> None:
    """Nobody would be there to end it when policies change."""
    lonely = stage.pod()
    cookie = stage.enrol(lonely)
    stage.application(lonely).call(application.serve, "lonely", PORT)
    to = (IPv4Address(lonely.v4), PORT)
    world.allowing.allow(world.cookies["client"], to, cookie, to, world.address("client"))
    assert world.call("client", Call((str(to[0]), PORT))).error == errno.ECONNREFUSED
    assert counted()["inbound_refused_no_tunnel"] == 1
    assert world.ports() == []


def test_where_nobody_listens_it_is_refused(world: World, counted: Counted) -> None:
    to = (world.address("server"), DEAF)
    world.allowing.allow(world.cookies["client"], to, world.cookies["server"], to, world.address("client"))
    assert world.call("client", Call((str(to[0]), DEAF))).error == errno.ECONNREFUSED
    assert counted() == {"connect_direct": 1, "direct_announced": 1, "inbound_direct": 1}


def test_application_under_a_flood(world: World) -> None:
    """With SYN cookies it is the handshake's last segment that looks for a listener."""
    world.allow()
    world.server.netns.run(lambda: always_send_cookies(True))
    assert world.call("client", Call((str(world.server.v4), PORT))).server == "server"
    world.server.netns.run(lambda: always_send_cookies(False))
    assert world.ports() == []


def test_connection_outlives_the_word_and_the_agent(world: World, stage: Stage) -> None:
    world.allow()
    world.on["client"].call(application.open_echo, (str(world.server.v4), PORT))
    world.allowing.deny(world.cookies["client"], (world.address("server"), PORT))
    stage.restart()
    assert world.on["client"].call(application.echo, b"still here") == b"still here"
    world.on["client"].call(application.close_echo)


def test_socket_that_is_used_again_elsewhere(world: World, counted: Counted) -> None:
    """What was direct is redirected then, and the application sees whom it asked for."""
    world.allow()
    server = str(world.server.v4)
    assert world.on["client"].call(application.reconnect, (server, PORT), (server, OTHER)) == (server, OTHER)
    assert world.on["client"].call(application.reconnect, (server, OTHER), (server, PORT)) == (server, PORT)
    given = counted()
    assert (given["connect_direct"], given["connect_captured"]) == (2, 2)


def test_many_short_connections_leave_nothing(world: World) -> None:
    world.allow()
    errors = world.on["client"].call(application.calls, (str(world.server.v4), PORT), 3000)
    assert set(errors) == {0}
    assert world.ports() == []
