"""Envoy at the other end, as client and as server."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.peers.exchange import greet, half_close, reset, transfer
from tests.peers.stage import HBONE, OURS, PORT, Stage, address, is_reset
from tests.support.envoy import End, Envoy, Way
from tests.support.http2 import exactly

NOBODY, REFUSED = 7001, 7002
VERSIONS = [4, 6]
CURVES = ["X25519MLKEM768", "X25519", "P-256"]
NEAR = {4: 16001, 6: 16002}
NEAR_CURVE = {curve: 16010 + index for index, curve in enumerate(CURVES)}


@pytest.fixture(scope="module")
def client(whole_stage: Stage) -> Iterator[Envoy]:
    """In the peer's pod; connections to its loopback come to ours through a tunnel."""
    v4, v6 = (str(address(whole_stage.ours, version)) for version in VERSIONS)
    ways = [
        Way(("127.0.0.1", NEAR[4]), v4, (v4, PORT)),
        Way(("127.0.0.1", NEAR[6]), v6, (v6, PORT)),
        Way(("127.0.0.1", REFUSED), v4, (v4, NOBODY)),
        *(Way(("127.0.0.1", near), v4, (v4, PORT), (curve,)) for curve, near in NEAR_CURVE.items()),
    ]
    stage = whole_stage
    with started(stage, "client", ways) as envoy:
        yield envoy


@pytest.fixture
def server(stage: Stage) -> Iterator[Envoy]:
    """In the peer's pod; ends our tunnels and goes on to applications there."""
    ends = [End(str(address(stage.peer, version)), (PORT, NOBODY)) for version in VERSIONS]
    with started(stage, "server", ends) as envoy:
        yield envoy


@pytest.fixture
def remote(stage: Stage) -> Iterator[socket.socket]:
    """A server in the peer's pod."""
    with stage.listen(stage.peer, PORT) as listener:
        yield listener


def started(stage: Stage, name: str, ways: Sequence[Way | End]) -> Envoy:
    return Envoy.tunnel(name, stage.peer, stage.folder, me=stage.certificate, peer=OURS, ways=ways)


def through(stage: Stage, near: int) -> socket.socket:
    """A client of the Envoy in the peer's pod."""
    return stage.peer.netns.run(lambda: socket.create_connection(("127.0.0.1", near), 10))


def accepted(listener: socket.socket) -> tuple[socket.socket, str]:
    """The next connection, and the client's address."""
    sock, peer = listener.accept()
    sock.settimeout(10)
    return sock, peer[0].removeprefix("::ffff:")


@pytest.mark.parametrize("version", VERSIONS)
def test_client_reaches_our_pod(
    stage: Stage, client: Envoy, application: socket.socket, version: int
) -> None:
    with through(stage, NEAR[version]) as near:
        far, source = accepted(application)
        with far:
            assert source == str(address(stage.peer, version))
            greet(near, far)
            transfer(near, far, 16 << 20)
            half_close(near, far)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_pod_reaches_a_server(stage: Stage, server: Envoy, remote: socket.socket, version: int) -> None:
    with stage.dial(PORT, version) as near:
        far, source = accepted(remote)
        with far:
            assert source == str(address(stage.peer, version)), "it is Envoy that connects"
            greet(near, far)
            transfer(near, far, 16 << 20)
            half_close(near, far)


def test_client_ends_last(stage: Stage, client: Envoy, application: socket.socket) -> None:
    with through(stage, NEAR[4]) as near:
        far, _ = accepted(application)
        with far:
            half_close(far, near)


def test_server_ends_first(stage: Stage, server: Envoy, remote: socket.socket) -> None:
    """Envoy gives a stream up, both ways, when its server ends: an end to our pod too, not a reset."""
    with stage.dial(PORT) as near:
        far, _ = accepted(remote)
        with far:
            greet(near, far)
            far.sendall(b"farewell")
            far.shutdown(socket.SHUT_WR)
            assert exactly(near, 8) == b"farewell"
            assert not is_reset(near)


def test_many_streams_of_a_client(stage: Stage, client: Envoy, application: socket.socket) -> None:
    """They share a tunnel, and none sees bytes of another."""
    before = client.stats("upstream_cx_total")
    with ExitStack() as exits:
        pairs = []
        for _ in range(20):
            near = exits.enter_context(through(stage, NEAR[4]))
            far, _ = accepted(application)
            pairs.append((near, exits.enter_context(far)))
        for number, (near, _) in enumerate(pairs):
            near.sendall(b"%04d" % number)
        for number, (near, far) in reversed(list(enumerate(pairs))):
            assert exactly(far, 4) == b"%04d" % number
            greet(near, far)
    after = client.stats("upstream_cx_total")
    assert sum(after.values()) - sum(before.values()) <= 1


def test_many_streams_of_our_pod(stage: Stage, server: Envoy, remote: socket.socket) -> None:
    with ExitStack() as exits:
        pairs = []
        for _ in range(20):
            near = exits.enter_context(stage.dial(PORT))
            far, _ = accepted(remote)
            pairs.append((near, exits.enter_context(far)))
        for number, (near, _) in enumerate(pairs):
            near.sendall(b"%04d" % number)
        for number, (near, far) in reversed(list(enumerate(pairs))):
            assert exactly(far, 4) == b"%04d" % number
            greet(near, far)


def test_application_that_refuses_a_client(stage: Stage, client: Envoy) -> None:
    """Envoy is answered 503, and drops its client."""
    with (
        stage.refusal("destination", "connect_failed"),
        through(stage, REFUSED) as near,
    ):
        assert near.recv(1) == b""


def test_server_whose_application_refuses(stage: Stage, server: Envoy) -> None:
    """Envoy answers 503: the application here sees a reset."""
    with stage.refusal("source", "peer_unavailable") as line:
        assert stage.is_refused(NOBODY)
    assert line["error"].endswith(f"{stage.peer.v4}:{HBONE} answers 503")


def test_server_that_does_not_know_the_destination(stage: Stage, server: Envoy) -> None:
    with stage.refusal("source", "peer_refused") as line:
        assert stage.is_refused(PORT + 100)
    assert line["error"].endswith("answers 404")


def test_client_resets(stage: Stage, client: Envoy, application: socket.socket) -> None:
    with through(stage, NEAR[4]) as near:
        far, _ = accepted(application)
        with far:
            greet(near, far)
            reset(near)
            assert is_reset(far)


def test_server_dies(stage: Stage, server: Envoy, remote: socket.socket) -> None:
    """The tunnel breaks under its streams: the application sees a reset."""
    with stage.refusal("source", "tunnel_lost"), stage.dial(PORT) as near:
        far, _ = accepted(remote)
        with far:
            greet(near, far)
            server.close()
            assert is_reset(near)


@pytest.mark.parametrize("curve", CURVES)
def test_key_exchange_with_a_client(
    stage: Stage, client: Envoy, application: socket.socket, curve: str
) -> None:
    with through(stage, NEAR_CURVE[curve]) as near:
        far, _ = accepted(application)
        with far:
            greet(near, far)
    used = client.stats(f"ssl.curves.{curve}")
    assert [count for name, count in used.items() if f"{NEAR_CURVE[curve]}" in name] == [1]


@pytest.mark.parametrize("curve", CURVES)
def test_key_exchange_with_a_server(stage: Stage, remote: socket.socket, curve: str) -> None:
    end = End(str(stage.peer.v4), (PORT,), (curve,))
    name = f"server-{curve}"
    with started(stage, name, [end]) as envoy:
        with stage.dial(PORT) as near:
            far, _ = accepted(remote)
            with far:
                greet(near, far)
        assert list(envoy.stats(f"ssl.curves.{curve}").values()) == [1]


def test_both_prefer_the_hybrid_key_exchange(stage: Stage, server: Envoy, remote: socket.socket) -> None:
    before = sum(server.stats("ssl.curves.X25519MLKEM768").values())
    with stage.dial(PORT) as near:
        far, _ = accepted(remote)
        with far:
            greet(near, far)
    assert sum(server.stats("ssl.curves.X25519MLKEM768").values()) == before + 1
