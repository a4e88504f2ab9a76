"""Istio's ztunnel in our tunnel's place on one of two nodes.

Our agent drives it: its configuration, its pods' namespaces, its certificates and its redirection are ours.
The lab's own tests run the demonstration with it.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.lab import Lab
from agent.lab.members import Pod
from tests.support import sockets
from tests.support.resident import Resident
from tests.support.wait import until

ZTUNNEL = os.environ.get("WARREN_ZTUNNEL")
pytestmark = pytest.mark.skipif(not ZTUNNEL, reason="WARREN_ZTUNNEL names no ztunnel binary")

PORT, NOBODY = 7000, 7001
OURS, THEIRS = "node1", "node2"
SIZE = 64 << 20
VERSIONS = [4, 6]


@dataclass
class Side:
    """A pod, and a process in it."""

    pod: Pod
    process: Resident

    def address(self, version: int) -> str:
        return str(self.pod.ipv6 if version == 6 else self.pod.ipv4)


@dataclass
class Pair:
    """A client and a server in the mesh, one of them behind ztunnel."""

    client: Side
    server: Side
    listener: int

    def connect(self, version: int = 4) -> tuple[int, int]:
        """Both ends' numbers of one connection."""
        near = self.client.process.call(sockets.connect, (self.server.address(version), PORT))
        far, source = self.server.process.call(sockets.accept, self.listener)
        assert source == self.client.address(version)
        return near, far


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(name=f"wt-ztunnel-{os.getpid()}", ztunnels={THEIRS: Path(str(ZTUNNEL))}) as lab:
        yield lab


@pytest.fixture(scope="module")
def exits() -> Iterator[ExitStack]:
    with ExitStack() as exits:
        yield exits


@pytest.fixture(scope="module")
def pairs(lab: Lab, exits: ExitStack) -> dict[str, Pair]:
    """By the node that the client is on."""

    def side(deployment: str, node: str) -> Side:
        pod = next(pod for pod in lab.pods_of(f"deploy/{deployment}") if pod.node == node)
        process = Resident(pod.cgroup, pod.netns)
        exits.callback(process.close)
        return Side(pod, process)

    ours, theirs = side("client", OURS), side("web", THEIRS)
    listeners = [each.process.call(sockets.listen, PORT) for each in (ours, theirs)]
    return {OURS: Pair(ours, theirs, listeners[1]), THEIRS: Pair(theirs, ours, listeners[0])}


@pytest.fixture(params=[OURS, THEIRS], ids=["to ztunnel", "from ztunnel"])
def pair(request: pytest.FixtureRequest, pairs: dict[str, Pair]) -> Pair:
    return pairs[request.param]


def logged(lab: Lab, text: str, start: int = 0) -> str:
    """The first line of our tunnel's log that fits, from a place in it on."""

    def find() -> str:
        lines = lab.node(OURS).log("tunnel").read_bytes()[start:].decode().splitlines()
        return next((line for line in lines if re.search(text, line)), "")

    return until(find, what=f"{text} in the log")


def end_of(lab: Lab) -> int:
    return lab.node(OURS).log("tunnel").stat().st_size


def test_ztunnel_it_is(lab: Lab) -> None:
    commands = [Path(f"/proc/{pid}/comm").read_text() for pid in lab.node(THEIRS).pids("tunnel")]
    assert commands == ["ztunnel\n"]


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_and_both_ends(pair: Pair, version: int) -> None:
    near, far = pair.connect(version)
    client, server = pair.client.process, pair.server.process
    client.call(sockets.send, near, b"ping")
    assert server.call(sockets.receive, far, 4) == b"ping"
    client.call(sockets.end, near)
    assert server.call(sockets.receive, far, 1) == b""
    server.call(sockets.send, far, b"pong")
    assert client.call(sockets.receive, near, 4) == b"pong"
    server.call(sockets.close, far)
    assert client.call(sockets.receive, near, 1) == b""
    client.call(sockets.close, near)


def test_server_speaks_first_and_ends_first(pair: Pair) -> None:
    near, far = pair.connect()
    client, server = pair.client.process, pair.server.process
    server.call(sockets.send, far, b"welcome")
    server.call(sockets.end, far)
    assert client.call(sockets.receive, near, 8) == b"welcome"
    client.call(sockets.send, near, b"thanks")
    client.call(sockets.close, near)
    assert server.call(sockets.receive, far, 7) == b"thanks"
    server.call(sockets.close, far)


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_much(pair: Pair, down: bool) -> None:
    near, far = pair.connect()
    ends = [(pair.client.process, near), (pair.server.process, far)]
    (sender, sent), (receiver, received) = reversed(ends) if down else ends
    with ThreadPoolExecutor(1) as threads:
        digest = threads.submit(sender.call, sockets.send_much, sent, SIZE)
        assert receiver.call(sockets.receive_much, received) == (SIZE, digest.result())
    for process, number in ends:
        process.call(sockets.close, number)


def test_identities(lab: Lab, pair: Pair) -> None:
    """Both are our authority's; each end has proven its own to the other."""
    start = end_of(lab)
    near, far = pair.connect()
    pair.client.process.call(sockets.close, near)
    pair.server.process.call(sockets.close, far)
    direction = "outbound" if pair.client.pod.node == OURS else "inbound"
    line = logged(lab, rf"direction={direction}", start)
    assert f"src.identity={pair.client.pod.identity}\t" in line
    assert f"dst.identity={pair.server.pod.identity}\t" in line


def test_many_at_once(pair: Pair) -> None:
    client, server = pair.client.process, pair.server.process
    ends = [pair.connect() for _ in range(50)]
    for number, (near, _) in enumerate(ends):
        client.call(sockets.send, near, b"%04d" % number)
    for number, (_, far) in reversed(list(enumerate(ends))):
        assert server.call(sockets.receive, far, 4) == b"%04d" % number
    for near, far in ends:
        client.call(sockets.close, near)
        server.call(sockets.close, far)


def test_short_ones(pair: Pair) -> None:
    count = 200
    with ThreadPoolExecutor(1) as threads:
        served = threads.submit(pair.server.process.call, sockets.serve_echoes, pair.listener, count)
        to = (pair.server.address(4), PORT)
        assert pair.client.process.call(sockets.short_connections, to, count) == count
        assert served.result() == count


def test_nobody_listens_behind_ztunnel(lab: Lab, pairs: dict[str, Pair]) -> None:
    """It answers 503."""
    start, pair = end_of(lab), pairs[OURS]
    assert pair.client.process.call(sockets.is_reset, (pair.server.address(4), NOBODY))
    assert "answers 503" in logged(lab, "reason=peer_unavailable", start)


def test_nobody_listens_behind_our_tunnel(lab: Lab, pairs: dict[str, Pair]) -> None:
    """We answer 503: it drops its application."""
    start, pair = end_of(lab), pairs[THEIRS]
    near = pair.client.process.call(sockets.connect, (pair.server.address(4), NOBODY))
    assert pair.client.process.call(sockets.receive, near, 1) == b""
    pair.client.process.call(sockets.close, near)
    assert f"src.identity={pair.client.pod.identity}" in logged(lab, "reason=connect_failed", start)


def test_reset_of_our_application(pairs: dict[str, Pair]) -> None:
    """ztunnel tells its application of an end, not of a reset; it is over for it in any case."""
    pair = pairs[OURS]
    near, far = pair.connect()
    pair.client.process.call(sockets.send, near, b"ping")
    assert pair.server.process.call(sockets.receive, far, 4) == b"ping"
    pair.client.process.call(sockets.reset, near)
    assert pair.server.process.call(sockets.receive, far, 1) == b""
    pair.server.process.call(sockets.close, far)


def test_ztunnel_that_comes_back(lab: Lab, pairs: dict[str, Pair]) -> None:
    """What was open ends; what is new works, both ways, as soon as it serves."""
    pair = pairs[OURS]
    near, far = pair.connect()
    lab.node(THEIRS).stop("tunnel", within=0)
    with pytest.raises(ConnectionResetError):
        pair.client.process.call(sockets.receive, near, 1)
    for side, number in ((pair.client, near), (pair.server, far)):
        side.process.call(sockets.forget, number)
    lab.node(THEIRS).start("tunnel")
    until(pair.server.pod.captured)
    for each in pairs.values():
        ends = each.connect()
        for side, number in zip((each.client, each.server), ends, strict=True):
            side.process.call(sockets.close, number)
