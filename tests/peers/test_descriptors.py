"""A client outside the mesh: by any port, as many connections as descriptors, and what the next one sees."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.stage import HBONE, PORT, Stage, is_refused
from tests.support import sockets
from tests.support.http2 import TIMEOUT
from tests.support.resident import Resident
from tests.support.wait import until

SERVED, MANY = 7050, 60_000
IPV4 = Path("/proc/sys/net/ipv4")
PORTS = {  # of clients: all but those where other tests listen, and which TIME_WAIT would hold for a minute
    "ip_local_port_range": "1024 65535",
    "ip_local_reserved_ports": f"7000-7999,{HBONE}",
}
OTHERS = 500  # descriptors of the tunnel that are not of connections


@contextmanager
def exhausted(pid: int) -> Iterator[None]:
    """A process has every descriptor open that it may."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    lowest = next(number for number in range(len(taken) + 1) if number not in taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def is_turned_away(stage: Stage, port: int) -> bool:
    """Whether a connection from the peer's pod is reset."""
    return stage.peer.netns.run(lambda: is_refused((str(stage.ours.v4), port)))


def plain(stage: Stage, by: int = 0) -> socket.socket:
    """A connection of the peer's, which is not in the mesh, to our application, by this port."""
    to = (str(stage.ours.v4), PORT)
    return stage.peer.netns.run(lambda: socket.create_connection(to, TIMEOUT, source_address=("", by)))


def test_a_client_may_have_any_port(stage: Stage, application: socket.socket) -> None:
    """Also one at which the tunnel listens in our pod, or one beside it."""
    for port in range(15000, 15012):
        with plain(stage, port) as client, application.accept()[0] as served:
            sockets.reset_on_close(client)  # else TIME_WAIT would keep the port from who is to listen there
            client.sendall(b"by any")
            assert served.recv(6) == b"by any"


def test_who_comes_when_none_is_left_is_refused_at_once(stage: Stage, application: socket.socket) -> None:
    with plain(stage) as open_before, application.accept()[0] as far:
        with exhausted(stage.tunnel.pid):
            for _ in range(3):
                with stage.refusal("destination", "out_of_descriptors") as line:
                    assert is_turned_away(stage, PORT)
                assert line["src.addr"].startswith(f"{stage.peer.v4}:")
                assert line["dst.addr"] == f"{stage.ours.v4}:{PORT}"
            with stage.refusal("destination", "out_of_descriptors"):
                assert is_turned_away(stage, HBONE)
            with stage.refusal("source", "out_of_descriptors"):
                assert stage.is_refused(PORT)
            open_before.sendall(b"still")
            assert far.recv(5) == b"still"
        with plain(stage) as client, application.accept()[0] as served:
            client.sendall(b"again")
            assert served.recv(5) == b"again"


def write(ports: dict[str, str]) -> None:
    for name, value in ports.items():
        (IPV4 / name).write_text(value)


def test_one_client_has_as_many_connections_as_there_are_descriptors(stage: Stage) -> None:
    """It is not in the mesh, as a gateway or a load balancer: two descriptors of the tunnel's for each."""
    _, hard = resource.prlimit(stage.tunnel.pid, resource.RLIMIT_NOFILE)
    count = min(MANY, (hard - OTHERS) // 2)
    client, server = (Resident(pod.cgroup, pod.path) for pod in (stage.peer, stage.ours))
    former = stage.peer.netns.run(lambda: {name: (IPV4 / name).read_text() for name in PORTS})
    try:
        stage.peer.netns.run(lambda: write(PORTS))
        server.call(sockets.serve, SERVED)
        connections = client.call(sockets.connect_many, (str(stage.ours.v4), SERVED), count)
        assert client.call(sockets.echoing, connections) == count
    finally:
        stage.peer.netns.run(lambda: write(former))
        client.close()
        server.close()
    until(lambda: len(list(Path(f"/proc/{stage.tunnel.pid}/fd").iterdir())) < OTHERS, what="all are closed")
