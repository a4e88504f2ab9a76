"""Whatever an agent or a tunnel says in ZDS: the other one answers or hangs up, and serves the next one."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.node.netns import NetnsFd
from agent.zds.server import Refused, ZdsServer
from agent.zds.tunnel import Local
from protocols import zds_pb2 as zds
from tests.fuzz.messages import built, damaged, fuzzed
from tests.support.descriptors import held
from tests.support.wait import until
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.pods import Pods
from tunnel.zds import ZdsClient

WITHIN = 10.0  # seconds for an answer, or for the next connection
NAMES = st.one_of(st.sampled_from(["a", "b", ""]), st.text(max_size=40))
INFOS = st.builds(zds.WorkloadInfo, name=NAMES, namespace=NAMES, service_account=NAMES)
REQUESTS = damaged(
    st.one_of(
        built(
            zds.WorkloadRequest,
            add=st.builds(zds.AddWorkload, uid=NAMES, workload_info=st.one_of(st.none(), INFOS)),
        ),
        built(zds.WorkloadRequest, keep=st.builds(zds.KeepWorkload, uid=NAMES)),
        built(zds.WorkloadRequest, **{"del": st.builds(zds.DelWorkload, uid=NAMES)}),
        st.just(zds.WorkloadRequest(snapshot_sent=zds.SnapshotSent()).SerializeToString()),
    )
).filter(bool)  # an empty packet is the end
DESCRIPTORS: st.SearchStrategy[list[str]] = st.one_of(
    st.just(["netns"]), st.just([]), st.lists(st.sampled_from(["netns", "null"]), max_size=9)
)
SNAPSHOT = zds.WorkloadRequest(snapshot_sent=zds.SnapshotSent()).SerializeToString()
ANSWERS = damaged(
    st.one_of(
        built(zds.ZdsHello, version=st.sampled_from([0, 1, 2])),
        built(zds.WorkloadResponse, ack=st.builds(zds.Ack, error=NAMES)),
    )
).filter(bool)


@pytest.fixture
def netns() -> Iterator[NetnsFd]:
    """One of our own; its loopback is down, which is enough to listen."""
    name = f"wt-fuzz-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    held = NetnsFd.open(Path("/run/netns") / name)
    yield held
    held.close()
    subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def listener(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
        agent.bind(str(path))
        agent.listen()
        agent.settimeout(WITHIN)
        yield agent


def answer(connection: socket.socket) -> bytes:
    """The next packet; nothing when the other side has hung up."""
    connection.settimeout(WITHIN)
    with suppress(ConnectionResetError):
        return connection.recv(1 << 16)
    return b""


def converse(agent: socket.socket, packets: list[tuple[bytes, list[int]]]) -> None:
    """Send packets on one connection, each when the last is answered, until the tunnel hangs up."""
    connection, _ = agent.accept()
    with connection:
        assert zds.ZdsHello.FromString(answer(connection)).version == zds.V1
        for packet, descriptors in packets:
            with suppress(BrokenPipeError):
                socket.send_fds(connection, [packet], descriptors)
            if not answer(connection):
                return


@fuzzed
@given(st.lists(st.tuples(REQUESTS, DESCRIPTORS), max_size=6))
def test_an_agent_that_says_anything(
    netns: NetnsFd, tmp_path: Path, packets: list[tuple[bytes, list[str]]]
) -> None:
    core = Core(node="node1", workers=1, spin_us=0, access_log="off")
    counters = Counters()
    client = ZdsClient(tmp_path / "zds", Pods(core, "cluster.local", counters, lambda _: None), counters)

    async def scenario(agent: socket.socket) -> None:
        running = asyncio.create_task(client.run())
        await asyncio.to_thread(converse, agent, sent)
        await asyncio.to_thread(converse, agent, [(SNAPSHOT, [])])
        assert not running.done(), running.exception()
        assert core.pods() == [], "the last snapshot named none"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with listener(tmp_path / "zds") as agent, Path("/dev/null").open() as null:
        given = {"netns": netns.fileno(), "null": null.fileno()}
        sent = [(packet, [given[kind] for kind in kinds]) for packet, kinds in packets]
        asyncio.run(scenario(agent))
    until(lambda: held(netns) == 1, WITHIN, "no descriptor of the namespace but ours")


@fuzzed
@given(st.lists(ANSWERS, max_size=6))
def test_a_tunnel_that_says_anything(netns: NetnsFd, tmp_path: Path, packets: list[bytes]) -> None:
    pod = Local(uid="u", name="a", namespace="b", service_account="c", netns=netns)

    async def scenario() -> None:
        server = ZdsServer(tmp_path / "zds", _trust)
        adding = asyncio.create_task(server.add(pod))
        await server.start()
        await asyncio.to_thread(_say, tmp_path / "zds", packets)
        await asyncio.to_thread(_serve, tmp_path / "zds")
        with suppress(Refused):  # that, too, is an answer of the tunnel's
            await asyncio.wait_for(adding, WITHIN)
        await server.stop()

    asyncio.run(scenario())


async def _trust(_: int) -> None:
    """Any process is a tunnel."""


def _say(path: Path, packets: list[bytes]) -> None:
    with _connected(path) as tunnel, suppress(BrokenPipeError, ConnectionResetError):
        for packet in packets:
            tunnel.send(packet)


def _serve(path: Path) -> None:
    """A tunnel that keeps to the protocol: it is told of the pod, and of no other."""
    with _connected(path) as tunnel:
        tunnel.send(zds.ZdsHello(version=zds.V1).SerializeToString())
        kinds = []
        for _ in range(2):
            packet, descriptors, _, _ = socket.recv_fds(tunnel, 1 << 16, 2)
            for descriptor in descriptors:
                os.close(descriptor)
            kinds.append(zds.WorkloadRequest.FromString(packet).WhichOneof("payload"))
            tunnel.send(zds.WorkloadResponse(ack=zds.Ack()).SerializeToString())
        assert kinds == ["add", "snapshot_sent"]


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as tunnel:
        tunnel.settimeout(WITHIN)
        tunnel.connect(str(path))
        yield tunnel
