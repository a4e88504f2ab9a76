"""Pods told to tunnels over a real socket, with real network namespaces."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.errors import SettingsError, WarrenError
from agent.node.netns import NetnsFd
from agent.zds.server import Refused, ZdsServer
from agent.zds.tunnel import Local
from tests.agent.zds.client import WRONG_VERSION, Client
from tests.support.eventually import eventually
from tests.support.wait import PATIENCE


@pytest.fixture
def netns() -> Iterator[NetnsFd]:
    fd = NetnsFd.open(Path("/proc/self/ns/net"))
    yield fd
    fd.close()


def local(uid: str, netns: NetnsFd) -> Local:
    return Local(uid, f"name-{uid}", "ns", "sa", netns)


class Running:
    """A server that notes whom it trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trusted: list[int] = []
        self.server = ZdsServer(path, self._trust)

    async def _trust(self, pid: int) -> None:
        self.trusted.append(pid)

    async def connected(self, tunnels: int = 1) -> None:
        await eventually(lambda: len(self.server._tunnels) == tunnels)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    it = Running(tmp_path / "ztunnel.sock")
    await it.server.start()
    yield it
    await it.server.stop()
    assert not it.path.exists()


async def test_snapshot_then_changes(running: Running, netns: NetnsFd) -> None:
    await running.server.add(local("a", netns))
    with Client(running.path) as client:
        request = await client.hear()
        assert request
        assert request.add.uid == "a"
        info = request.add.workload_info
        assert (info.name, info.namespace, info.service_account) == ("name-a", "ns", "sa")
        own = os.fstat(netns.fileno())
        assert [(s.st_dev, s.st_ino) for s in client.netns] == [(own.st_dev, own.st_ino)]
        assert running.trusted == [os.getpid()]
        client.answer()
        assert await client.told() == "snapshot"

        adding = asyncio.create_task(running.server.add(local("b", netns)))
        assert await client.hear()
        assert not adding.done(), "the tunnel has not answered"
        client.answer()
        await asyncio.wait_for(adding, PATIENCE)
        removing = asyncio.create_task(running.server.remove("a"))
        assert await client.told() == "del a"
        await asyncio.wait_for(removing, PATIENCE)
    await eventually(lambda: not running.server.tunnels())


async def test_a_new_namespace_for_the_same_pod(running: Running, netns: NetnsFd) -> None:
    await running.server.add(local("a", netns))
    with Client(running.path) as client:
        assert [await client.told(), await client.told()] == ["add a", "snapshot"]
        await asyncio.wait_for(running.server.add(local("a", netns)), PATIENCE)
        adding = asyncio.create_task(running.server.add(local("a", NetnsFd.open(Path("/proc/self/ns/net")))))
        assert await client.told() == "add a"
        await adding


async def test_several_tunnels_at_once(running: Running, netns: NetnsFd) -> None:
    with Client(running.path) as one, Client(running.path) as two:
        assert [await one.told(), await two.told()] == ["snapshot", "snapshot"]
        adding = asyncio.create_task(running.server.add(local("a", netns)))
        assert await one.told() == "add a"
        assert not adding.done()
        assert await two.told() == "add a"
        await asyncio.wait_for(adding, PATIENCE)


async def test_a_refusal_is_surfaced_and_tried_again(
    running: Running, netns: NetnsFd, caplog: pytest.LogCaptureFixture
) -> None:
    pod = local("a", netns)
    with Client(running.path) as client:
        await client.told()
        adding = asyncio.create_task(running.server.add(pod))
        await client.told(error="port 15001 is taken")
        with pytest.raises(Refused, match="port 15001 is taken"):
            await adding
        assert running.server.tunnels() == {os.getpid(): {"a": "port 15001 is taken"}}
        assert f"tunnel {os.getpid()} refused pod a: port 15001 is taken" in caplog.text

        again = asyncio.create_task(running.server.add(pod))
        assert await client.told() == "add a"
        await again
        assert running.server.tunnels() == {os.getpid(): {}}


async def test_a_tunnel_that_goes_holds_nobody_up(running: Running, netns: NetnsFd) -> None:
    with Client(running.path) as client:
        await client.told()
        adding = asyncio.create_task(running.server.add(local("a", netns)))
        assert await client.hear()
    await asyncio.wait_for(adding, PATIENCE)


async def test_without_a_tunnel_nothing_waits(running: Running, netns: NetnsFd) -> None:
    await running.server.add(local("a", netns))
    await running.server.remove("a")
    with Client(running.path) as client:
        assert await client.told() == "snapshot"


async def test_what_changes_during_the_snapshot(running: Running, netns: NetnsFd) -> None:
    await running.server.add(local("a", netns))
    await running.server.add(local("b", netns))
    with Client(running.path) as client:
        assert await client.hear()
        changes = [
            running.server.remove("a"),
            running.server.remove("b"),
            running.server.add(local("c", netns)),
        ]
        waiting = asyncio.gather(*changes)
        await asyncio.sleep(0)
        client.answer()
        told = [await client.told() for _ in range(3)]
        assert told == ["del a", "add c", "snapshot"]
        await waiting


@pytest.mark.parametrize(
    ("hello", "reason"),
    [(WRONG_VERSION, "speaks version 0"), (b"\xff", "hello is no ZdsHello")],
)
async def test_a_wrong_hello(
    running: Running, caplog: pytest.LogCaptureFixture, hello: bytes, reason: str
) -> None:
    with Client(running.path, hello) as client:
        assert await client.told() == "closed"
    assert reason in caplog.text
    assert not running.trusted


@pytest.mark.parametrize(
    ("packet", "reason"), [(b"\xff", "no WorkloadResponse"), (b"\x0a\x00", "answered what it was not asked")]
)
async def test_a_tunnel_that_breaks_the_protocol(
    running: Running, caplog: pytest.LogCaptureFixture, packet: bytes, reason: str
) -> None:
    with Client(running.path) as client:
        await client.told()
        await running.connected()
        await asyncio.sleep(0)
        client.send(packet)
        assert await client.told() == "closed"
    assert reason in caplog.text


async def test_who_is_not_trusted_is_told_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def nobody(pid: int) -> None:
        raise WarrenError("not in our cgroup")

    server = ZdsServer(tmp_path / "zds", nobody)
    await server.start()
    with Client(tmp_path / "zds") as client:
        assert await client.told() == "closed"
    assert f"closed ZDS connection from tunnel pid {os.getpid()}: not in our cgroup" in caplog.text
    await server.stop()


async def test_only_the_owner_may_connect_and_a_stale_socket_is_replaced(running: Running) -> None:
    assert running.path.stat().st_mode & 0o777 == 0o600
    other = ZdsServer(running.path, running._trust)
    await other.start()
    with Client(running.path) as client:
        assert await client.told() == "snapshot"
    await other.stop()


async def test_a_path_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = ZdsServer(tmp_path / "file", Running(tmp_path)._trust)
    with pytest.raises(SettingsError, match=r"--run-dir: cannot listen at .*file: Address already in use"):
        await server.start()
