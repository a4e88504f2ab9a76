"""On demand: a tunnel that asks for what it meets, of the agent's server and of one like istiod's."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.model.resources import (
    ADDRESS,
    AUTHORIZATION,
    TRAFFIC,
    Delta,
    Resource,
    address_resource,
    traffic_resource,
)
from agent.node.netns import NetnsFd
from agent.xds.server import XdsServer
from protocols.discovery_pb2 import DeltaDiscoveryRequest
from protocols.workload_pb2 import (
    Address,
    GatewayAddress,
    NamespacedHostname,
    NetworkAddress,
    PortList,
    Service,
    TunnelProtocol,
    Workload,
)
from tests.support.eventually import eventually
from tests.tunnel.test_xds import push, recording, running
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.settings import Configuration
from tunnel.xds import XdsClient

CLUSTER = "Kubernetes"
FAR = "10.9.9.9"
PORT = 15001  # where the tunnel listens in the pod: without a redirection that is where a connection goes
WEB_KEY = "default/web.default.svc.cluster.local"


def workload(name: str, address: str, *services: str, waypoint: GatewayAddress | None = None) -> Resource:
    uid = f"{CLUSTER}//Pod/default/{name}"
    message = Workload(
        uid=uid,
        name=name,
        namespace="default",
        service_account=name,
        node="node1",
        tunnel_protocol=TunnelProtocol.HBONE,
        waypoint=waypoint,
        addresses=[IPv4Address(address).packed],
        services={key: PortList() for key in services},
    )
    return address_resource(uid, Address(workload=message), (f"/{address}",))


def service(address: str) -> Resource:
    vip = NetworkAddress(address=IPv4Address(address).packed)
    message = Service(
        name="web", namespace="default", hostname="web.default.svc.cluster.local", addresses=[vip]
    )
    return address_resource(WEB_KEY, Address(service=message), (f"/{address}",))


OWN = workload("own", "10.0.0.1", WEB_KEY)
PEER = workload("peer", "10.0.0.2", WEB_KEY)
WEB = service("10.96.0.1")
MESH = (OWN, PEER, WEB, workload("far", FAR), workload("other", "10.0.0.7"))


@pytest.fixture
def core() -> Core:
    return Core(node="node1", workers=1, spin_us=0, access_log="off", on_demand=CLUSTER)


@pytest.fixture
def netns(make_netns: Callable[[], NetnsFd]) -> NetnsFd:
    """A pod's, in which the far address is local: a connection to it meets the tunnel."""
    netns = make_netns()
    netns.run(lambda: subprocess.run(["ip", "address", "add", f"{FAR}/32", "dev", "lo"], check=True))
    return netns


@pytest.fixture
def client(core: Core, counters: Counters, tmp_path: Path) -> XdsClient:
    return XdsClient(core, Configuration(f"unix:{tmp_path}/xds", on_demand=True), "node1", CLUSTER, counters)


@asynccontextmanager
async def serving(directory: Path, *resources: Resource) -> AsyncIterator[XdsServer]:
    server = XdsServer()
    server.update(Delta(changed=resources), "1")
    await server.start(directory / "xds", IPv4Address("127.0.0.1"), 0)
    try:
        yield server
    finally:
        await server.stop()


def add_own(core: Core, netns: NetnsFd) -> None:
    core.add_pod("uid", netns.fileno(), "own", "default", "own", "cluster.local")


def held(core: Core) -> set[str]:
    """Names of workloads and services."""
    dump = json.loads(core.dump())
    return {one["name"] for one in dump["workloads"]} | {one["key"] for one in dump["services"]}


def dial(netns: NetnsFd) -> socket.socket:
    """A connection of the pod's to the far address."""
    return netns.run(partial(socket.create_connection, (FAR, PORT), 5))


async def test_its_own_pods_and_their_services_are_there_and_nothing_else(
    core: Core, client: XdsClient, tmp_path: Path, netns: NetnsFd
) -> None:
    add_own(core, netns)
    async with serving(tmp_path, *MESH), running(client):
        await eventually(lambda: held(core) == {"own", "peer", WEB_KEY})
        assert not client.missing
        await asyncio.to_thread(core.forget_unused, 0.0)
        assert held(core) == {"own", "peer", WEB_KEY}, "these are always needed"


async def test_what_a_connection_meets_is_asked_for_and_forgotten_when_nobody_needs_it(
    core: Core, client: XdsClient, tmp_path: Path, netns: NetnsFd
) -> None:
    add_own(core, netns)
    async with serving(tmp_path, *MESH) as server, running(client):
        await eventually(lambda: "own" in held(core))
        with dial(netns):
            await eventually(lambda: "far" in held(core))
        assert "other" not in held(core)
        await asyncio.to_thread(core.forget_unused, 3600.0)
        assert "far" in held(core)
        await asyncio.to_thread(core.forget_unused, 0.0)
        assert held(core) == {"own", "peer", WEB_KEY}
        await eventually(lambda: all(one.current for one in server.subscribed()))
        with dial(netns):
            await eventually(lambda: "far" in held(core))
        server.update(Delta(removed=((ADDRESS, MESH[3].name),)), "2")
        await eventually(lambda: "far" not in held(core))


async def test_after_a_reconnection_it_asks_for_the_same(
    core: Core, client: XdsClient, tmp_path: Path, netns: NetnsFd
) -> None:
    add_own(core, netns)
    async with running(client):
        async with serving(tmp_path, *MESH):
            await eventually(lambda: "own" in held(core))
            with dial(netns):
                await eventually(lambda: "far" in held(core))
        moved = workload("moved", FAR)
        async with serving(tmp_path, *MESH[:3], moved):
            await eventually(lambda: held(core) == {"own", "peer", WEB_KEY, "moved"})


async def test_a_connection_waits_until_all_that_it_needs_is_answered(
    core: Core, client: XdsClient, tmp_path: Path, netns: NetnsFd
) -> None:
    """A server like istiod's: resources have their own names; what is not there is removed as asked for."""
    add_own(core, netns)
    proxy = NamespacedHostname(namespace="default", hostname="proxy.default.svc.cluster.local")
    behind = workload("far", FAR, waypoint=GatewayAddress(hostname=proxy, hbone_mtls_port=15008))
    waypoint = f"{proxy.namespace}/{proxy.hostname}"

    def asked(name: str) -> bool:
        return any(name in request.resource_names_subscribe for request in server.heard)

    async with recording(tmp_path) as server, running(client):
        server.say.put_nowait(push(AUTHORIZATION))
        await eventually(lambda: asked(OWN.name))
        await eventually(lambda: not client.missing)  # what is asked for one by one is not waited for
        server.say.put_nowait(push(ADDRESS, OWN, nonce="2"))
        await eventually(lambda: asked(WEB_KEY))
        with dial(netns) as application:
            await eventually(lambda: asked(f"/{FAR}"))
            server.say.put_nowait(push(ADDRESS, behind, nonce="3"))
            await eventually(lambda: asked(waypoint))
            application.setblocking(False)
            with pytest.raises(BlockingIOError):
                application.recv(1)
            application.settimeout(4)  # less than it would wait without an answer
            absent = push(ADDRESS, nonce="4")
            absent.removed_resources.append(waypoint)
            server.say.put_nowait(absent)
            with pytest.raises(ConnectionResetError):  # it is refused: its waypoint is unknown
                await asyncio.to_thread(application.recv, 1)
        await asyncio.to_thread(core.forget_unused, 0.0)
        await eventually(lambda: any(f"/{FAR}" in one.resource_names_unsubscribe for one in server.heard))


async def is_refused(core: Core, application: socket.socket) -> bool:
    """Whether it is reset because the mesh does not know where it was going."""
    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(application.recv, 1)
    return 'refused_total{reporter="source",reason="not_in_registry"} 1' in core.metrics()


async def test_nothing_leaves_the_mesh_before_it_is_known_whether_it_may(
    counters: Counters, tmp_path: Path, netns: NetnsFd
) -> None:
    """The connection is there before anything is known."""
    core = Core(node="node1", workers=1, spin_us=0, access_log="off")
    client = XdsClient(core, Configuration(f"unix:{tmp_path}/xds"), "node1", CLUSTER, counters)
    add_own(core, netns)
    with dial(netns) as application:
        async with serving(tmp_path, OWN, traffic_resource("", "REGISTRY_ONLY")), running(client):
            assert await is_refused(core, application)


async def test_what_nobody_answers_about_is_unknown(
    core: Core, client: XdsClient, tmp_path: Path, netns: NetnsFd
) -> None:
    add_own(core, netns)
    async with recording(tmp_path) as server, running(client):
        for one in (push(TRAFFIC, traffic_resource("default", "REGISTRY_ONLY")), push(ADDRESS, OWN)):
            server.say.put_nowait(one)
        await eventually(lambda: "own" in held(core))
        with dial(netns) as application:
            application.settimeout(10)  # more than it waits for an answer
            assert await is_refused(core, application)


async def test_to_ask_for_nothing(core: Core, client: XdsClient, tmp_path: Path) -> None:
    async with recording(tmp_path) as server, running(client):
        first = await eventually(lambda: next((r for r in server.heard if r.type_url == ADDRESS), None))
        assert isinstance(first, DeltaDiscoveryRequest)
        assert first.resource_names_subscribe == first.resource_names_unsubscribe == ["*"]
        assert client.missing == ["Authorization"]
