"""What applications in the mesh must not notice: every way between pods, and every way to end."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mesh.conftest import PORT, Connection, Connector, Mesh
from tests.support import sockets, wire
from tests.support.netns import behind
from tests.support.resident import Resident
from tests.support.wait import until

FAMILIES = pytest.mark.parametrize("family", [4, 6])
TARGETS = pytest.mark.parametrize("target", ["a", "near", "far", "outside"])


@pytest.fixture(scope="module")
def greeting(mesh: Mesh) -> int:
    """The port of a server in `near` that greets and echoes."""
    mesh.inside("near").call(sockets.serve, 7500)
    return 7500


def carries(connection: Connection) -> bool:
    """Whether bytes pass, both ways."""
    client, server = connection.client, connection.server
    client.call(sockets.send, connection.near, b"question")
    asked = server.call(sockets.receive, connection.far, 8)
    server.call(sockets.send, connection.far, b"answer")
    return asked == b"question" and client.call(sockets.receive, connection.near, 6) == b"answer"


@FAMILIES
@TARGETS
def test_a_pod_reaches_a_pod_by_its_address(connect: Connector, mesh: Mesh, target: str, family: int) -> None:
    """Itself, one on its node, one on the other node, one outside the mesh."""
    connection = connect("a", target, family)
    assert carries(connection)
    assert connection.seen == mesh.address("a", family)
    peer = connection.client.call(sockets.peer, connection.near)
    assert peer == (mesh.address(target, family), PORT)


@FAMILIES
@TARGETS
def test_a_pod_reaches_a_service_by_its_virtual_address(
    connect: Connector, mesh: Mesh, target: str, family: int
) -> None:
    virtual = (mesh.service(target, family), 80)
    connection = connect("a", target, family, to=virtual)
    assert carries(connection)
    assert connection.seen == mesh.address("a", family)
    assert connection.client.call(sockets.peer, connection.near) == virtual


@FAMILIES
def test_a_pod_outside_the_mesh_reaches_one_inside(connect: Connector, mesh: Mesh, family: int) -> None:
    connection = connect("outside", "a", family)
    assert carries(connection)
    assert connection.seen == mesh.address("outside", family)


@FAMILIES
def test_between_nodes_nobody_hears_what_enrolled_pods_say(
    connect: Connector, mesh: Mesh, family: int
) -> None:
    """Who listens on the link hears every word of a pod outside the mesh, and none of theirs."""
    node, other = mesh.lab.nodes
    inside, outside = connect("a", "far", family), connect("outside", "a", family)
    listener = Resident(mesh.lab.pod("outside").cgroup, node.netns)
    try:
        listener.call(wire.listen, node.link_to(other))
        assert carries(inside)
        outside.client.call(sockets.send, outside.near, b"unguarded")
        until(lambda: listener.call(wire.heard, b"unguarded"), what="who listens hears what is in the clear")
        assert not listener.call(wire.heard, b"question")
        assert not listener.call(wire.heard, b"answer")
    finally:
        listener.close()


@TARGETS
def test_a_server_may_speak_first(connect: Connector, target: str) -> None:
    connection = connect("a", target)
    connection.server.call(sockets.send, connection.far, b"220 ready")
    assert connection.client.call(sockets.receive, connection.near, 9) == b"220 ready"


@pytest.mark.parametrize("path", ["a near", "a far", "a outside", "outside a"])
def test_a_first_answer_in_two_pieces_waits_for_nothing(mesh: Mesh, path: str) -> None:
    """The second waits until the first is acknowledged (Nagle's algorithm): that is not to be delayed."""
    client, server = path.split()
    mesh.inside(server).call(sockets.serve_in_pieces, 7600)
    took = mesh.inside(client).call(sockets.first_answers, (mesh.address(server, 4), 7600), 20)
    assert sorted(took)[6] < 0.03, took


@TARGETS
def test_a_client_that_has_ended_still_gets_its_answer(connect: Connector, target: str) -> None:
    connection = connect("a", target)
    connection.client.call(sockets.send, connection.near, b"question")
    connection.client.call(sockets.end, connection.near)
    assert connection.server.call(sockets.receive, connection.far, 100) == b"question"
    connection.server.call(sockets.send, connection.far, b"answer")
    connection.server.call(sockets.close, connection.far)
    assert connection.client.call(sockets.receive, connection.near, 100) == b"answer"


@TARGETS
def test_a_server_that_has_ended_still_gets_the_rest(connect: Connector, target: str) -> None:
    connection = connect("a", target)
    connection.server.call(sockets.end, connection.far)
    assert connection.client.call(sockets.receive, connection.near, 1) == b""
    connection.client.call(sockets.send, connection.near, b"the rest")
    connection.client.call(sockets.close, connection.near)
    assert connection.server.call(sockets.receive, connection.far, 100) == b"the rest"


@TARGETS
def test_a_clients_reset_is_a_reset_at_the_server(connect: Connector, target: str) -> None:
    connection = connect("a", target)
    assert carries(connection)
    connection.client.call(sockets.reset, connection.near)
    with pytest.raises(ConnectionResetError):
        connection.server.call(sockets.receive, connection.far, 1)


@TARGETS
def test_a_client_that_resets_at_once_is_no_end(connect: Connector, target: str) -> None:
    for _ in range(10):
        connection = connect("a", target, abort=True)
        with pytest.raises(ConnectionResetError):
            connection.server.call(sockets.receive, connection.far, 1)


@TARGETS
def test_a_reset_after_its_end_reaches_who_still_sends(connect: Connector, target: str) -> None:
    connection = connect("a", target)
    connection.client.call(sockets.end, connection.near)
    assert connection.server.call(sockets.receive, connection.far, 1) == b""
    connection.client.call(sockets.reset, connection.near)
    until(lambda: connection.server.call(sockets.is_broken, connection.far), what="the server learns it")


@TARGETS
def test_a_reset_reaches_who_does_not_read(connect: Connector, target: str) -> None:
    """It is not to wait until there is room for the bytes before it."""
    connection = connect("a", target)
    assert connection.client.call(sockets.fill, connection.near) > 64 << 10
    connection.client.call(sockets.reset, connection.near)
    until(lambda: connection.server.call(sockets.is_broken, connection.far), what="the server learns it")


@TARGETS
def test_an_urgent_byte_arrives_among_the_others(connect: Connector, target: str) -> None:
    for _ in range(20):
        connection = connect("a", target)
        connection.server.call(sockets.take_inline, connection.far)
        connection.client.call(sockets.send_urgent, connection.near, b"abc", b"!", b"def")
        assert connection.server.call(sockets.receive, connection.far, 7) == b"abc!def"


@TARGETS
def test_a_servers_reset_is_a_reset_at_the_client(connect: Connector, target: str) -> None:
    connection = connect("a", target)
    assert carries(connection)
    connection.server.call(sockets.reset, connection.far)
    with pytest.raises(ConnectionResetError):
        connection.client.call(sockets.receive, connection.near, 1)


@pytest.mark.parametrize(
    ("path", "end", "reason"),
    [
        ("outside near", "client", "peer_reset"),
        ("outside near", "server", "app_reset"),
        ("a outside", "client", "app_reset"),
        ("a outside", "server", "peer_reset"),
    ],
)
def test_the_access_log_says_whose_reset_it_was(
    mesh: Mesh, connect: Connector, path: str, end: str, reason: str
) -> None:
    """Also where one of both is in no tunnel."""
    client, server = path.split()
    connection = connect(client, server)
    assert carries(connection)
    source = f"{connection.seen}:{connection.client.call(sockets.port, connection.near)}"
    if end == "client":
        connection.client.call(sockets.reset, connection.near)
    else:
        connection.server.call(sockets.reset, connection.far)
    line = re.compile(rf"\tsrc\.addr={source}\t.*\treason=(\w+)")
    log = mesh.lab.node("node1").log("tunnel")
    told = until(lambda: line.search(log.read_text()), what="the access log tells of it")
    assert told and told[1] == reason


def test_what_a_client_sends_arrives_though_it_closes_at_once(connect: Connector) -> None:
    connection = connect("a", "far")
    connection.client.call(sockets.send, connection.near, b"and gone")
    connection.client.call(sockets.close, connection.near)
    assert connection.server.call(sockets.receive, connection.far, 100) == b"and gone"


@pytest.mark.parametrize("target", ["near", "far"])
def test_a_port_where_nobody_listens_refuses(mesh: Mesh, target: str) -> None:
    assert mesh.inside("a").call(sockets.is_reset, (mesh.address(target, 4), 9))


def test_a_gibibyte_arrives_as_it_was_sent(connect: Connector) -> None:
    connection = connect("a", "far")
    size = 1 << 30
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(connection.client.call, sockets.send_much, connection.near, size)
        received = pool.submit(connection.server.call, sockets.receive_much, connection.far)
        assert received.result() == (size, sent.result())


def test_a_stream_that_stalls_holds_up_no_other(connect: Connector) -> None:
    """With more data waiting than all windows of the pair: the others go on, and then it does, too."""
    stalled = [connect("a", "far") for _ in range(6)]
    with ThreadPoolExecutor() as pool:
        taken = [pool.submit(stalled[0].client.call, sockets.fill, one.near) for one in stalled]
        sizes = [one.result() for one in taken]
    assert all(64 << 10 < size < 64 << 20 for size in sizes)
    fast = connect("a", "far")
    with ThreadPoolExecutor() as pool:
        size = 64 << 20
        sent = pool.submit(fast.client.call, sockets.send_much, fast.near, size)
        received = pool.submit(fast.server.call, sockets.receive_much, fast.far)
        assert received.result(timeout=20) == (size, sent.result())
    for one, size in zip(stalled, sizes, strict=True):
        one.client.call(sockets.end, one.near)
        assert one.server.call(sockets.receive_much, one.far)[0] == size


def test_the_application_in_the_mesh_is_reached_only_through_it(
    mesh: Mesh, listening: dict[str, int]
) -> None:
    """The tunnel's own ports are nobody's business."""
    for port in (15001, 15006):
        assert mesh.inside("outside").call(sockets.is_reset, (mesh.address("a", 4), port))
    assert mesh.inside("a").call(sockets.is_reset, ("127.0.0.1", 15001))


def test_with_the_tunnel_stopped_nothing_passes(mesh: Mesh, connect: Connector) -> None:
    node = mesh.lab.node("node1")
    node.stop("tunnel")
    try:
        for family in (4, 6):
            for target in ("near", "far", "outside"):
                with pytest.raises(ConnectionRefusedError):
                    mesh.inside("a").call(sockets.connect, (mesh.address(target, family), PORT))
            with pytest.raises(ConnectionRefusedError):
                mesh.inside("outside").call(sockets.connect, (mesh.address("a", family), PORT))
    finally:
        node.start("tunnel")
    assert carries(connect("a", "far"))


def test_an_agent_that_restarts_disturbs_nobody(mesh: Mesh, connect: Connector) -> None:
    connection = connect("a", "far")
    node = mesh.lab.node("node1")
    node.stop("agent")
    assert carries(connection)
    assert carries(connect("a", "far"))  # new ones, too
    node.start("agent")
    assert carries(connection)
    assert carries(connect("a", "near"))


def test_families_are_not_mixed_up(mesh: Mesh, connect: Connector) -> None:
    """A v4-mapped address on an IPv6 socket is IPv4 to everybody else."""
    mapped = (f"::ffff:{mesh.address('far', 4)}", PORT)
    connection = connect("a", "far", to=mapped)
    assert carries(connection)
    assert connection.seen == mesh.address("a", 4)
    assert connection.client.call(sockets.family, connection.near) == socket.AF_INET6
    until(lambda: carries(connection))


@FAMILIES
@pytest.mark.parametrize("path", ["a near", "a far", "far a"])
def test_a_server_sees_its_clients_own_port(connect: Connector, mesh: Mesh, path: str, family: int) -> None:
    """So a client has as many connections as it has ports, as without a mesh. Something else may have one."""
    source, target = path.split()
    own, seen = list[int](), list[int]()
    for _ in range(20):
        connection = connect(source, target, family)
        assert carries(connection)
        own.append(connection.client.call(sockets.port, connection.near))
        seen.append(connection.server.call(sockets.peer, connection.far)[1])
    others = [pair for pair in zip(own, seen, strict=True) if pair[0] != pair[1]]
    assert len(others) <= 1, (others, [node.verdicts() for node in mesh.lab.nodes])


@FAMILIES
@pytest.mark.parametrize("target", ["a", "near"])
def test_a_server_sees_a_port_beside_that_of_a_client_outside(
    connect: Connector, target: str, family: int
) -> None:
    """One by which the client has no connection."""
    own, seen = set[int](), set[int]()
    for _ in range(20):
        connection = connect("outside", target, family)
        own.add(connection.client.call(sockets.port, connection.near))
        seen.add(connection.server.call(sockets.peer, connection.far)[1])
    assert len(seen) == 20 and not own & seen
    assert all(carries(one) for one in connect.made)


@FAMILIES
@pytest.mark.parametrize("source", ["outside", "a"])
def test_a_client_may_speak_at_any_moment(greeting: int, mesh: Mesh, source: str, family: int) -> None:
    """Also while the tunnel connects to the application."""
    client = mesh.inside(source)
    assert client.call(sockets.speaks_between, (mesh.address("near", family), greeting), 600) == []


@FAMILIES
def test_a_client_outside_may_have_the_port_that_a_server_sees(
    greeting: int, mesh: Mesh, family: int
) -> None:
    """What is said on the one connection while the other begins arrives."""
    client = mesh.inside("outside")
    assert client.call(sockets.speaks_beside, (mesh.address("near", family), greeting), 1000) == []


def test_a_client_behind_a_device_that_came_later_is_served(greeting: int, mesh: Mesh) -> None:
    """As of Docker in a pod, which makes a bridge of its own."""
    server = mesh.lab.pod("near")
    with behind(server.netns) as namespace:
        client = Resident(mesh.lab.pod("outside").cgroup, namespace)
        try:
            assert client.call(sockets.speaks_between, (mesh.address("near", 4), greeting), 3) == []
        finally:
            client.close()


@FAMILIES
@pytest.mark.parametrize("source", ["outside", "a", "far"])
def test_a_listener_that_is_bound_to_a_device_is_reached(
    mesh: Mesh, connect: Connector, source: str, family: int
) -> None:
    server, client = mesh.inside("near"), mesh.inside(source)
    listener = server.call(sockets.listen, 7400, "eth0")
    try:
        near = client.call(sockets.connect, (mesh.address("near", family), 7400))
        far, seen = server.call(sockets.accept, listener)
        assert seen == mesh.address(source, family)
        assert carries(Connection(client, server, near, far, seen))
        client.call(sockets.forget, near)
        server.call(sockets.forget, far)
    finally:
        server.call(sockets.forget, listener)
