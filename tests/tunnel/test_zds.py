"""The ZDS client with the agent's own server, and with one that breaks the rules."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio

from agent.node.netns import NetnsFd
from agent.zds import server as server_module
from agent.zds.server import Refused, ZdsServer
from agent.zds.tunnel import Local
from protocols import zds_pb2 as zds
from tests.support.descriptors import held
from tests.support.eventually import eventually
from tests.support.wait import PATIENCE
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.pods import Pods
from tunnel.zds import ZdsClient

INFO = zds.WorkloadInfo(name="web-1", namespace="default", service_account="web")


class Agent:
    """Speaks packet by packet, right or wrong."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen()
        self.connection: socket.socket | None = None

    async def accept(self) -> zds.ZdsHello:
        """Take the next connection; gives what the tunnel says first."""
        self.hang_up()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            self.connection, _ = await loop.sock_accept(self._listener)
            self.connection.setblocking(False)
            return zds.ZdsHello.FromString(await loop.sock_recv(self.connection, 4096))

    async def ask(self, request: zds.WorkloadRequest | bytes, *descriptors: int) -> str | None:
        """The tunnel's error, "" for none; None when it hung up without an answer."""
        packet = request if isinstance(request, bytes) else request.SerializeToString()
        assert self.connection
        socket.send_fds(self.connection, [packet], list(descriptors))
        return await self.answer()

    async def answer(self) -> str | None:
        assert self.connection
        async with asyncio.timeout(PATIENCE):
            answer = await asyncio.get_running_loop().sock_recv(self.connection, 4096)
        return zds.WorkloadResponse.FromString(answer).ack.error if answer else None

    def hang_up(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


def add(uid: str = "uid1") -> zds.WorkloadRequest:
    return zds.WorkloadRequest(add=zds.AddWorkload(uid=uid, workload_info=INFO))


def keep(uid: str = "uid1") -> zds.WorkloadRequest:
    return zds.WorkloadRequest(keep=zds.KeepWorkload(uid=uid))


def delete(uid: str = "uid1") -> zds.WorkloadRequest:
    return zds.WorkloadRequest(**{"del": zds.DelWorkload(uid=uid)})  # type: ignore[arg-type]


SNAPSHOT = zds.WorkloadRequest(snapshot_sent=zds.SnapshotSent())


@asynccontextmanager
async def running(core: Core, counters: Counters, path: Path) -> AsyncIterator[ZdsClient]:
    client = ZdsClient(path, Pods(core, "cluster.local", counters, lambda _: None), counters)
    task = asyncio.create_task(client.run())
    yield client
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest_asyncio.fixture
async def client(core: Core, counters: Counters, tmp_path: Path) -> AsyncIterator[ZdsClient]:
    async with running(core, counters, tmp_path / "zds") as client:
        yield client


@pytest.fixture
def agent(tmp_path: Path, client: ZdsClient) -> Iterator[Agent]:
    agent = Agent(tmp_path / "zds")
    yield agent
    agent.close()


def local_pod(uid: str, netns: NetnsFd) -> Local:
    return Local(uid=uid, name=uid, namespace="default", service_account="web", netns=netns)


async def trust(_pid: int) -> None:
    """Any process is the tunnel."""


async def test_pods_outlive_the_agent_and_follow_it_when_it_is_back(
    client: ZdsClient, core: Core, counters: Counters, tmp_path: Path, make_netns: Callable[[], NetnsFd]
) -> None:
    one, two, three = (local_pod(f"uid{number}", make_netns()) for number in (1, 2, 3))
    server = ZdsServer(tmp_path / "zds", trust)
    await server.start()
    await eventually(lambda: client.synced)
    await server.add(one)
    await server.add(two)
    assert sorted(core.pods()) == ["uid1", "uid2"]
    assert counters.zds_connected.get() == 1

    await server.stop()
    await eventually(lambda: not client.synced)
    assert sorted(core.pods()) == ["uid1", "uid2"]

    server = ZdsServer(tmp_path / "zds", trust)
    await server.add(two)
    await server.add(three)
    await server.start()
    await eventually(lambda: client.synced)
    assert sorted(core.pods()) == ["uid2", "uid3"]
    await server.remove("uid2")
    assert core.pods() == ["uid3"]
    await server.stop()


async def test_an_agent_that_was_away_for_long_is_found_within_a_second(
    client: ZdsClient, counters: Counters, tmp_path: Path
) -> None:
    await eventually(lambda: counters.zds_ends.get() >= 10)  # pauses would have doubled to five seconds
    agent, began = Agent(tmp_path / "zds"), monotonic()
    await agent.accept()
    assert monotonic() - began < 3
    agent.close()


async def test_a_pod_that_starts_right_after_the_agent_waits_for_the_tunnel_to_be_back(
    core: Core, counters: Counters, tmp_path: Path, netns: NetnsFd
) -> None:
    """Else all that it connects to would be refused until then."""
    server = ZdsServer(tmp_path / "zds", trust)
    await server.start()
    adding = asyncio.create_task(server.add(local_pod("uid1", netns)))
    async with running(core, counters, tmp_path / "zds"):
        await adding
        assert core.pods() == ["uid1"]
        await server.remove("uid1")
    await server.stop()


async def test_where_no_tunnel_comes_back_a_pod_starts(
    tmp_path: Path, netns: NetnsFd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_RETURN", 0.1)
    server = ZdsServer(tmp_path / "zds", trust)
    await server.start()
    async with asyncio.timeout(PATIENCE):
        await server.add(local_pod("uid1", netns))
    assert server.tunnels() == {}
    await server.stop()


async def test_a_pod_that_cannot_be_served_is_the_agents_to_know(
    client: ZdsClient, tmp_path: Path, netns: NetnsFd
) -> None:
    def occupy() -> socket.socket:
        taken = socket.create_server(("", 15006))
        return taken

    server = ZdsServer(tmp_path / "zds", trust)
    await server.start()
    await eventually(lambda: client.synced)
    with netns.run(occupy), pytest.raises(Refused, match="in use"):
        await server.add(local_pod("uid1", netns))
    assert client.synced
    await server.stop()


async def test_a_snapshot_with_keep(
    agent: Agent, client: ZdsClient, core: Core, make_netns: Callable[[], NetnsFd]
) -> None:
    hello = await agent.accept()
    assert hello.version == zds.V1
    assert await agent.ask(add("uid1"), make_netns().fileno()) == ""
    assert await agent.ask(add("uid2"), make_netns().fileno()) == ""
    assert not client.synced
    assert await agent.ask(SNAPSHOT) == ""
    assert client.synced

    await agent.accept()
    assert await agent.ask(keep("uid2")) == ""
    assert await agent.ask(keep("uid9")) == "uid9 is not known: add it"
    assert core.pods() != ["uid2"]
    assert await agent.ask(SNAPSHOT) == ""
    assert core.pods() == ["uid2"]
    assert await agent.ask(delete("uid2")) == ""
    assert await agent.ask(delete("uid2")) == ""
    assert core.pods() == []


async def test_deleted_before_the_snapshot_is_complete(
    agent: Agent, client: ZdsClient, core: Core, netns: NetnsFd
) -> None:
    await agent.accept()
    assert await agent.ask(add(), netns.fileno()) == ""
    assert await agent.ask(delete()) == ""
    assert await agent.ask(SNAPSHOT) == ""
    assert core.pods() == []


async def test_a_wrong_descriptor_is_refused_and_the_connection_stays(agent: Agent, netns: NetnsFd) -> None:
    await agent.accept()
    read, write = os.pipe()
    assert "not a network namespace" in (await agent.ask(add(), read) or "")
    os.close(read)
    os.close(write)
    assert await agent.ask(add(), netns.fileno()) == ""


@pytest.mark.parametrize(
    ("request_", "descriptors", "error"),
    [
        (add(), 0, "not with one"),
        (add(), 2, "not with one"),
        (zds.WorkloadRequest(add=zds.AddWorkload(uid="uid1")), 1, "without workload_info"),
        (delete(), 1, "takes none"),
        (SNAPSHOT, 1, "takes none"),
        (
            zds.WorkloadRequest(add=zds.AddWorkload(uid="uid1")).SerializeToString()[:-1],
            0,
            "no WorkloadRequest",
        ),
        (b"\x32\x00", 0, "a kind that we do not know"),
        (add(), 9, None),
    ],
)
async def test_a_broken_protocol_ends_the_connection_and_leaks_nothing(
    agent: Agent, netns: NetnsFd, request_: zds.WorkloadRequest | bytes, descriptors: int, error: str | None
) -> None:
    await agent.accept()
    before = held(netns)
    answer = await agent.ask(request_, *[netns.fileno()] * descriptors)
    assert answer is None if error is None else error in (answer or "")
    if answer:
        assert await agent.answer() is None, "it hangs up"
    await agent.accept()
    await eventually(lambda: held(netns) == before)


async def test_messages_out_of_order_end_the_connection(agent: Agent) -> None:
    for late in (SNAPSHOT, keep()):
        await agent.accept()
        assert await agent.ask(SNAPSHOT) == ""
        assert await agent.ask(late)
        assert await agent.answer() is None
