"""Configuration over real sockets: gRPC on a Unix socket and over TLS."""

import socket
import ssl
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import grpc
import grpc.aio
import pytest

from agent.errors import SettingsError
from agent.model.model import Model, apply
from agent.model.resources import ADDRESS, AUTHORIZATION, Delta
from agent.model.unread import Unread
from agent.xds.server import XdsServer
from agent.xds.stream import MAX_TYPES
from tests.agent.model.objects import changes, pod, service
from tests.agent.xds.client import Client
from tests.support.eventually import eventually

LOCALHOST = IPv4Address("127.0.0.1")
UID = "Kubernetes//Pod/default/a"


class Running:
    """A server with one pod and one service."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "xds.sock"
        self.server = XdsServer()
        self.model = Model()
        self.port = 0

    async def start(self) -> None:
        self.apply(pod("a", labels={"app": "web"}), service("web"))
        self.port = await self.server.start(self.socket, LOCALHOST, 0)

    def apply(self, *items: object, since: float | None = None) -> None:
        self.model, delta = apply(self.model, changes(*items))  # type: ignore[arg-type]
        self.server.update(delta, self.model.version, since=since)

    def client(self) -> Client:
        return Client(f"unix:{self.socket}")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    it = Running(tmp_path)
    await it.start()
    yield it
    await it.server.stop()


async def test_everything_then_a_change(running: Running) -> None:
    async with running.client() as client:
        await client.ask(ADDRESS)
        first = await client.hear()
        assert [entry.name for entry in first.resources] == ["default/web.default.svc.cluster.local", UID]
        assert first.system_version_info == running.model.version
        await client.acknowledge(first)
        await client.ask(AUTHORIZATION)
        empty = await client.hear()
        assert (empty.type_url, len(empty.resources)) == (AUTHORIZATION, 0)
        await client.acknowledge(empty)

        running.apply(pod("a", "10.0.0.7", labels={"app": "web"}))
        second = await client.hear()
        assert [entry.name for entry in second.resources] == [UID]
        await client.acknowledge(second)
        await eventually(lambda: all(s.current for s in running.server.subscribed()))
        assert +running.server.answers() == {(ADDRESS, "ack"): 2, (AUTHORIZATION, "ack"): 1}
        versions = [subscribed.version for subscribed in running.server.subscribed()]
        assert versions == [running.model.version, first.system_version_info]
    await eventually(lambda: not list(running.server.subscribed()))
    assert not running.server.cache.watched(ADDRESS)
    assert +running.server.answers() == {(ADDRESS, "ack"): 2, (AUTHORIZATION, "ack"): 1}


async def test_a_type_that_nobody_knows_is_answered(running: Running) -> None:
    async with running.client() as client:
        await client.ask("type.googleapis.com/example.Unknown")
        assert not (await client.hear()).resources


async def test_a_refusal_is_logged_and_shown(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    async with running.client() as client:
        await client.ask(ADDRESS)
        await client.acknowledge(await client.hear(), refuse=f"{UID}: no address")
        await eventually(lambda: f"xDS client test rejected {UID}: {UID}: no address" in caplog.text)
        [subscribed] = running.server.subscribed()
        assert not subscribed.current
        assert subscribed.rejection == ((UID,), f"{UID}: no address")


async def test_over_tls_with_the_root_that_is_kept(running: Running) -> None:
    root = running.directory / "xds-root.pem"
    before = root.read_bytes()
    for host in ("127.0.0.1", "localhost"):
        async with Client(f"{host}:{running.port}", root) as client:
            await client.ask(ADDRESS)
            assert len((await client.hear()).resources) == 2
    await running.server.stop()
    running.port = await running.server.start(running.socket, LOCALHOST, 0)
    assert root.read_bytes() == before
    assert ssl.get_server_certificate(("127.0.0.1", running.port))


async def test_a_spoilt_root_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "xds-root.pem").write_text("spoilt")
    (tmp_path / "xds-root.key").write_text("spoilt")
    server = XdsServer()
    port = await server.start(tmp_path / "xds.sock", IPv6Address("::1"), 0)
    async with Client(f"[::1]:{port}", tmp_path / "xds-root.pem") as client:
        await client.ask(ADDRESS)
        assert not (await client.hear()).resources
    await server.stop()


async def test_only_the_owner_can_use_what_is_secret(running: Running) -> None:
    for name in ("xds.sock", "xds-root.key"):
        assert (running.directory / name).stat().st_mode & 0o777 == 0o600
    assert (running.directory / "xds-root.pem").stat().st_mode & 0o777 == 0o644


async def test_a_client_that_asks_for_too_many_types_is_cut(running: Running) -> None:
    async with running.client() as client:
        with pytest.raises(grpc.aio.AioRpcError, match=f"more than {MAX_TYPES} types") as error:
            for number in range(MAX_TYPES + 1):
                await client.ask(f"type/{number}")
            for _ in range(MAX_TYPES + 1):
                await client.hear()
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_address_that_is_taken(running: Running, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot listen there"):
        await XdsServer().start(tmp_path / "other.sock", LOCALHOST, running.port)


async def test_a_socket_that_a_killed_agent_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "xds.sock"))
    running = Running(tmp_path)
    await running.start()
    async with running.client() as client:
        await client.ask(ADDRESS)
        assert len((await client.hear()).resources) == 2
    await running.server.stop()


async def test_what_could_not_be_read_is_gone_as_soon_as_it_is_known_to_be(running: Running) -> None:
    running.server.update(Delta(), "2", Unread(keys=frozenset({None})))
    async with running.client() as client:
        await client.ask(ADDRESS, initial_resource_versions={"Kubernetes//Pod/default/lost": "1"})
        first = await client.hear()
        assert not first.removed_resources
        await client.acknowledge(first)
        await client.ask(AUTHORIZATION)
        await client.hear()  # nothing else is to be told now
        running.server.update(Delta(), "3")
        assert list((await client.hear()).removed_resources) == ["Kubernetes//Pod/default/lost"]


async def test_a_client_of_a_large_mesh_may_tell_all_that_it_has(running: Running) -> None:
    versions = {
        f"Kubernetes//Pod/namespace-of-some-team/deployment-{n:040}": f"{n:016x}" for n in range(42_000)
    }
    async with running.client() as client:
        await client.ask(ADDRESS, initial_resource_versions=versions)
        answer = await client.hear()
    assert len(answer.removed_resources) == len(versions)


async def test_how_long_a_change_takes_is_counted_when_it_is_acknowledged(running: Running) -> None:
    def counted() -> int:
        return [count for _, count in running.server.convergence.cumulative()][-1]

    async with running.client() as client:
        await client.ask(ADDRESS)
        await client.acknowledge(await client.hear())
        running.apply(pod("a", "10.0.0.7", labels={"app": "web"}), since=time.monotonic() - 2)
        told = await client.hear()
        assert counted() == 0, "neither what was asked for nor what is not acknowledged yet"
        await client.acknowledge(told)
        await eventually(counted)
    assert 2 <= running.server.convergence.sum < 60
