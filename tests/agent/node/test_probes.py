"""The kubelet's probes with real connections: they reach the application, and nobody else's do."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.node.errors import DatapathError
from agent.node.state import Cookie
from bpf.pins import Pins
from tests.support import application, sockets, standin
from tests.support.application import IPPROTO_MPTCP, MPTCP, Address, Call
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.stage import Stage
from tests.support.standin import INBOUND, Seen
from tests.support.wait import until

DECLARED, UNDECLARED, DEAF = 8080, 8081, 8082
Counted = Callable[[], dict[str, int]]


@dataclass
class World:
    """A captured pod with a server on both ports, one outside, and two processes of the host's."""

    pod: Pod
    outside: Pod
    cookie: Cookie
    on_pod: Resident
    on_outside: Resident
    kubelet: Resident
    neighbour: Resident
    tunnel: Resident

    def seen(self) -> list[Seen]:
        return self.tunnel.call(standin.seen)


@pytest.fixture(scope="module")
def world(stage: Stage) -> World:
    pod, outside = stage.pod(), stage.pod()
    on_pod, on_outside = stage.application(pod), stage.application(outside)
    cookie = stage.enrol(pod)
    stage.datapath.let_probes(cookie, [DECLARED, DEAF])
    for port in (DECLARED, UNDECLARED):
        on_pod.call(application.serve, "pod", port)
    kubelet, neighbour = stage.on_host("kubelet"), stage.on_host("neighbour")
    stage.datapath.trust_kubelet(stage.node.cgroup / "kubelet")
    tunnel = stage.tunnel(pod)
    return World(pod, outside, cookie, on_pod, on_outside, kubelet, neighbour, tunnel)


@pytest.fixture(autouse=True)
def quiet(world: World, stage: Stage) -> Iterator[None]:
    """The connections of the test before are over; of a test's probes nothing is left."""
    until(lambda: world.tunnel.call(standin.idle), what="the tunnel is idle")
    world.seen()
    yield
    probes = Pins(stage.bpffs / "warren").map("announced")
    assert probes is not None
    until(lambda: list(probes) == [], what="no probe is announced any more")


@pytest.fixture
def counted(quiet: None, counted: Counted) -> Counted:
    return counted


KINDS: dict[str, Callable[[Pod], Call]] = {
    "v4": lambda to: Call((str(to.v4), DECLARED)),
    "v6": lambda to: Call((str(to.v6), DECLARED)),
    "v4-mapped": lambda to: Call((f"::ffff:{to.v4}", DECLARED), family=socket.AF_INET6),
    "mptcp": lambda to: Call((str(to.v4), DECLARED), protocol=IPPROTO_MPTCP),
    "fast open": lambda to: Call((str(to.v6), DECLARED), fast_open=True),
    "bound": lambda to: Call((str(to.v4), DECLARED), bind=("", 21300)),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if MPTCP or "mptcp" not in kind])
def test_probe_reaches_the_application(world: World, counted: Counted, kind: str) -> None:
    outcome = world.kubelet.call(application.call, KINDS[kind](world.pod))
    assert (outcome.error, outcome.server) == (0, "pod")
    assert outcome.client == outcome.local  # nothing has been changed on the way
    assert world.seen() == []
    given = counted()
    assert given.pop("inbound_probe") >= 1
    assert given == {"probe_announced": 1}


def passes_the_tunnel(world: World, caller: Resident, port: int) -> bool:
    """Whether a call is steered to the tunnel, for both families, before it comes to the application."""
    for to in (str(world.pod.v4), str(world.pod.v6)):
        outcome = caller.call(application.call, Call((to, port)))
        assert (outcome.error, outcome.server) == (0, "pod")
        if [(seen.port, seen.wanted) for seen in world.seen()] != [(INBOUND, (to, port))]:
            return False
    return True


def test_port_that_is_not_declared(world: World, counted: Counted) -> None:
    assert passes_the_tunnel(world, world.kubelet, UNDECLARED)
    given = counted()
    assert given["probe_not_declared"] == 2
    assert "inbound_probe" not in given


def test_other_processes_of_the_host(world: World, stage: Stage, counted: Counted) -> None:
    """Also one below the kubelet's cgroup, where there may be pods."""
    below = stage.on_host("kubelet/pods")
    for caller in (world.neighbour, below):
        assert passes_the_tunnel(world, caller, DECLARED)
    assert not {name for name in counted() if "probe" in name}


def test_process_of_another_pod(world: World, counted: Counted) -> None:
    assert passes_the_tunnel(world, world.on_outside, DECLARED)
    assert not {name for name in counted() if "probe" in name}


def test_pod_itself(world: World, counted: Counted) -> None:
    outcome = world.on_pod.call(application.call, Call((str(world.pod.v4), DECLARED)))
    assert outcome.server == "pod"
    assert not world.seen(), "its own address is not redirected"
    assert not {name for name in counted() if "probe" in name}


def connect_and_reset(to: Address, port: int) -> None:
    """From a port of ours, which is free again when this returns."""
    with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET) as sock:
        sockets.reset_on_close(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
        sock.connect(to)
        assert sock.recv(1) == b"{"


@pytest.mark.parametrize("version", [4, 6])
def test_port_of_a_probe_that_has_ended(world: World, counted: Counted, version: int) -> None:
    to = (str(world.pod.v4 if version == 4 else world.pod.v6), DECLARED)
    world.kubelet.call(connect_and_reset, to, 21301)
    assert (counted()["probe_announced"], world.seen()) == (1, [])
    assert world.neighbour.call(application.call, Call(to, bind=("", 21301))).local[1] == 21301
    assert [seen.port for seen in world.seen()] == [INBOUND]
    assert "inbound_probe" not in counted()


def send_syn(source: Address, to: Address) -> None:
    """As if it came from `source`."""
    ends = socket.inet_aton(source[0]), socket.inet_aton(to[0])
    head = struct.pack("!HHIIBBHHH", source[1], to[1], 4711, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = b"".join(ends) + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head)) + head
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[18:]
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0, *ends) + head
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(packet, (to[0], 0))


def believe_forgeries() -> None:
    """Route packets that say they come from this machine: the worst node that there could be."""
    for setting, value in (("accept_local", "1"), ("rp_filter", "0")):
        for path in Path("/proc/sys/net/ipv4/conf").glob(f"*/{setting}"):
            path.write_text(value)


def test_forged_source(world: World, stage: Stage, counted: Counted) -> None:
    """Another pod sends a SYN in the name of the kubelet's: of one that ended, and of one that never was."""
    stage.node.router.run(believe_forgeries)
    to = (str(world.pod.v4), DECLARED)
    kubelets = str(IPv4Address(int(world.pod.v4) - 1))
    world.kubelet.call(connect_and_reset, to, 21302)
    counted()
    for port in (21302, 21303):
        world.on_outside.call(send_syn, (kubelets, port), to)
        given = until(counted, what="the forged segment arrives")
        assert given == {"inbound_steered": 1}


def test_probe_where_nobody_listens_is_refused(world: World, counted: Counted) -> None:
    outcome = world.kubelet.call(application.call, Call((str(world.pod.v4), DEAF)))
    assert outcome.server == ""
    assert world.seen() == []
    assert counted() == {"probe_announced": 1, "inbound_probe": 1}


def always_send_cookies(yes: bool) -> None:
    Path("/proc/sys/net/ipv4/tcp_syncookies").write_text("2" if yes else "1")


@pytest.mark.parametrize("version", [4, 6])
def test_application_under_a_flood(world: World, version: int) -> None:
    """With SYN cookies it is the handshake's last segment that looks for a listener."""
    to = (str(world.pod.v4 if version == 4 else world.pod.v6), DECLARED)
    world.pod.netns.run(lambda: always_send_cookies(True))
    assert world.kubelet.call(application.call, Call(to)).server == "pod"
    world.pod.netns.run(lambda: always_send_cookies(False))
    assert world.seen() == []


def fill_queue(to: Address) -> list[int]:
    """Connect until a connection waits, and return; the numbers, that of the one that waits last."""
    numbers = []
    while True:
        sock = socket.socket()
        sock.settimeout(0.2)
        numbers.append(sockets.keep(sock))
        try:
            sock.connect(to)
        except TimeoutError:
            return numbers


def listen_for_few(port: int) -> int:
    return sockets.keep(socket.create_server(("", port), backlog=1))


def test_segment_that_is_sent_again(world: World, counted: Counted) -> None:
    """The application's queue is full; once it has room the kubelet's next SYN is let in as well."""
    listener = world.on_pod.call(listen_for_few, DEAF)
    *queued, waiting = world.kubelet.call(fill_queue, (str(world.pod.v4), DEAF))
    for _ in queued:
        world.on_pod.call(sockets.accept, listener)
    accepted, _ = world.on_pod.call(sockets.accept, listener)
    world.on_pod.call(sockets.send, accepted, b"late")
    assert world.kubelet.call(sockets.receive, waiting, 4) == b"late"
    for number in (*queued, waiting):
        world.kubelet.call(sockets.reset, number)
    world.on_pod.call(sockets.close, listener)
    given = counted()
    assert given["inbound_probe"] > given["probe_announced"] == len(queued) + 1
    assert world.seen() == []


def give_up(to: Address) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(to)


def test_probe_that_never_arrives_is_counted(world: World, stage: Stage, counted: Counted) -> None:
    nowhere = world.pod.v4 + 70
    stage.datapath.prepare(world.pod.netns, [*world.pod.addresses, nowhere])
    world.kubelet.call(give_up, (str(nowhere), DECLARED))
    stage.datapath.prepare(world.pod.netns, world.pod.addresses)
    assert counted() == {"probe_announced": 1, "probe_not_seen": 1}


def test_declaration_is_taken_back(world: World, stage: Stage) -> None:
    stage.datapath.let_probes(world.cookie, [DEAF])
    assert stage.datapath.pods()[world.cookie].probe_ports == (DEAF,)
    assert passes_the_tunnel(world, world.kubelet, DECLARED)
    stage.restart()
    stage.datapath.let_probes(world.cookie, [DECLARED, DEAF, INBOUND])
    assert stage.datapath.pods()[world.cookie].probe_ports == (DECLARED, DEAF)
    assert world.kubelet.call(application.call, Call((str(world.pod.v4), DECLARED))).server == "pod"
    assert world.seen() == []


def test_pod_that_is_released_gets_plain_connections(world: World, stage: Stage, counted: Counted) -> None:
    stage.datapath.release(world.cookie)
    assert world.kubelet.call(application.call, Call((str(world.pod.v4), DECLARED))).server == "pod"
    stage.datapath.capture(world.pod.netns, world.cookie)
    assert counted() == {}


def test_kubelet_that_moves(world: World, stage: Stage) -> None:
    """Its old cgroup is nobody's any more."""
    stage.datapath.trust_kubelet(stage.node.cgroup / "neighbour")
    assert passes_the_tunnel(world, world.kubelet, DECLARED)
    assert world.neighbour.call(application.call, Call((str(world.pod.v4), DECLARED))).server == "pod"
    assert world.seen() == []
    stage.datapath.trust_kubelet(stage.node.cgroup / "kubelet")


def test_cgroups_that_cannot_be_the_kubelets(stage: Stage, tmp_path: Path) -> None:
    root = stage.node.cgroup.parents[1]
    for cgroup in (tmp_path, root):
        with pytest.raises(DatapathError, match="is no cgroup of the kubelet's own: start it in one"):
            stage.datapath.trust_kubelet(cgroup)
    with pytest.raises(DatapathError, match=r"is not below .*: no program sees the kubelet's probes"):
        stage.datapath.trust_kubelet(stage.node.cgroup.parent)


def test_more_ports_than_there_is_room_for(world: World, stage: Stage) -> None:
    with pytest.raises(DatapathError, match="has 33 ports for probes: 32 at most"):
        stage.datapath.let_probes(world.cookie, range(1, 34))
