"""The xDS client with the agent's own server, and with a server that shows what it hears."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest

from agent.model.resources import (
    ADDRESS,
    AUTHORIZATION,
    CREDENTIAL,
    ROUTES,
    TELEMETRY,
    TRAFFIC,
    Delta,
    Resource,
    Template,
    address_resource,
    templated_resource,
    traffic_resource,
)
from agent.xds.server import Subscribed, XdsServer
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from protocols.workload_pb2 import HBONE, Address, Workload
from tests.support.eventually import eventually
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.settings import Configuration
from tunnel.xds import METHOD, XdsClient


def workload(name: str, address: bytes = b"\x0a\x00\x00\x01") -> Resource:
    uid = f"Kubernetes//Pod/default/{name}"
    message = Address(workload=Workload(uid=uid, name=name, namespace="default", addresses=[address]))
    return address_resource(uid, message, ())


def changed(*resources: Resource) -> Delta:
    return Delta(changed=resources)


def bad(name: str) -> Resource:
    """A workload whose address has three bytes."""
    return workload(name, b"\x0a\x00\x00")


def names(core: Core) -> list[str]:
    return sorted(workload["name"] for workload in json.loads(core.dump())["workloads"])


@asynccontextmanager
async def running(client: XdsClient) -> AsyncIterator[XdsClient]:
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serving(directory: Path, *resources: Resource) -> AsyncIterator[XdsServer]:
    server = XdsServer()
    server.update(changed(*resources), "1")
    await server.start(directory / "xds", IPv4Address("127.0.0.1"), 0)
    try:
        yield server
    finally:
        await server.stop()


def client_of(directory: Path, core: Core, counters: Counters) -> XdsClient:
    return XdsClient(core, Configuration(f"unix:{directory}/xds"), "node1", "Kubernetes", counters)


def subscribed(server: XdsServer, type_url: str) -> Subscribed | None:
    return next((one for one in server.subscribed() if one.type_url == type_url), None)


async def test_what_the_agent_has_is_what_the_core_has(
    core: Core, counters: Counters, tmp_path: Path
) -> None:
    client = client_of(tmp_path, core, counters)
    assert client.missing == ["Authorization", "Address"]
    async with running(client), serving(tmp_path, workload("a"), workload("b")) as server:
        await eventually(lambda: not client.missing)
        assert names(core) == ["a", "b"]
        assert counters.xds_connected.get() == 1
        server.update(changed(workload("c")), "2")
        await eventually(lambda: names(core) == ["a", "b", "c"])
        server.update(Delta(removed=((ADDRESS, workload("a").name),)), "3")
        await eventually(lambda: names(core) == ["b", "c"])
        await eventually(lambda: (one := subscribed(server, ADDRESS)) and one.version == "3")
        await server.stop()
        await eventually(lambda: counters.xds_connected.get() == 0)
        assert names(core) == ["b", "c"]
        assert not client.missing, "the last good configuration is in force"


async def test_what_is_bad_is_rejected_by_name_and_the_rest_is_taken(
    core: Core, counters: Counters, tmp_path: Path
) -> None:
    client = client_of(tmp_path, core, counters)
    async with serving(tmp_path, workload("a")) as server, running(client):
        await eventually(lambda: names(core) == ["a"])
        server.update(changed(bad("a"), workload("b")), "2")
        await eventually(lambda: names(core) == ["a", "b"])
        rejection = await eventually(lambda: (one := subscribed(server, ADDRESS)) and one.rejection)
        assert rejection
        assert "Kubernetes//Pod/default/a: " in rejection.reason
        assert counters.xds_rejected.get(ADDRESS) == 1
        server.update(changed(workload("a", b"\x0a\x00\x00\x02")), "3")
        await eventually(lambda: (one := subscribed(server, ADDRESS)) and one.version == "3")


async def test_after_a_reconnection_only_differences_are_sent(
    core: Core, counters: Counters, tmp_path: Path
) -> None:
    client = client_of(tmp_path, core, counters)
    many = [workload(f"w{number}", bytes([10, 1, number, 1])) for number in range(200)]
    async with running(client):
        async with serving(tmp_path, *many):
            # They are counted when they are in force.
            whole = await eventually(lambda: len(names(core)) == 200 and counters.xds_bytes.get(ADDRESS))
        async with serving(tmp_path, *many[1:], workload("new")):
            await eventually(lambda: "new" in names(core) and "w0" not in names(core))
            assert len(names(core)) == 200
            assert counters.xds_bytes.get(ADDRESS) - whole < whole / 20


class Recorder:
    """A server that writes down what it hears, and answers with what it was given to say."""

    def __init__(self) -> None:
        self.heard: list[DeltaDiscoveryRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.say: asyncio.Queue[DeltaDiscoveryResponse | None] = asyncio.Queue()

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
        )
        service, method = METHOD[1:].split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))

    async def _serve(
        self,
        requests: AsyncIterator[DeltaDiscoveryRequest],
        context: "grpc.aio.ServicerContext[DeltaDiscoveryRequest, DeltaDiscoveryResponse]",
    ) -> None:
        self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata() or ()})
        hearing = asyncio.create_task(self._hear(requests))
        while response := await self.say.get():
            await context.write(response)
        hearing.cancel()

    async def _hear(self, requests: AsyncIterator[DeltaDiscoveryRequest]) -> None:
        async for request in requests:
            self.heard.append(request)


def push(type_url: str, *resources: Resource, nonce: str = "1") -> DeltaDiscoveryResponse:
    response = DeltaDiscoveryResponse(type_url=type_url, nonce=nonce)
    for one in resources:
        added = response.resources.add(name=one.name, version=one.version)
        added.resource.type_url, added.resource.value = one.type_url, one.body
    return response


@asynccontextmanager
async def recording(directory: Path, most: int = -1) -> AsyncIterator[Recorder]:
    """most: bytes that it takes in one request."""
    recorder, server = Recorder(), grpc.aio.server(options=(("grpc.max_receive_message_length", most),))
    recorder.add_to(server)
    server.add_insecure_port(f"unix:{directory}/xds")
    await server.start()
    try:
        yield recorder
    finally:
        await server.stop(None)


async def test_the_requests_of_a_stream(core: Core, counters: Counters, tmp_path: Path) -> None:
    client = client_of(tmp_path, core, counters)
    async with recording(tmp_path) as server, running(client):
        await eventually(lambda: len(server.heard) == 6)
        for request in server.heard:
            assert request.node.metadata["NODE_NAME"] == "node1"
            assert request.node.id.split("~")[0] == "ztunnel"
            assert not request.resource_names_subscribe
            assert not request.initial_resource_versions
        types = [TRAFFIC, TELEMETRY, CREDENTIAL, ROUTES, AUTHORIZATION, ADDRESS]
        assert [request.type_url for request in server.heard] == types
        assert server.metadata[0]["clusterid"] == "Kubernetes"

        good, spoilt = workload("a"), bad("b")
        server.say.put_nowait(push(ADDRESS, good, nonce="n1"))
        await eventually(lambda: len(server.heard) == 7)
        assert server.heard[6] == DeltaDiscoveryRequest(type_url=ADDRESS, response_nonce="n1")
        server.say.put_nowait(push(ADDRESS, spoilt, nonce="n2"))
        await eventually(lambda: len(server.heard) == 8)
        assert server.heard[7].response_nonce == "n2"
        assert server.heard[7].error_detail.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert server.heard[7].error_detail.message.startswith("Kubernetes//Pod/default/b: ")

        server.say.put_nowait(None)  # the stream ends; the client comes back and tells what it has
        await eventually(lambda: len(server.heard) == 14)
        assert dict(server.heard[13].initial_resource_versions) == {good.name: good.version}
        assert counters.xds_ends.get("Complete") == 1


def traffic(core: Core) -> dict[str, str]:
    """What may leave the mesh, by namespace."""
    told = json.loads(core.dump())["traffic"]
    return {one["namespace"]: one["outbound_traffic_policy"] for one in told}


async def test_what_may_leave_the_mesh(core: Core, counters: Counters, tmp_path: Path) -> None:
    client = client_of(tmp_path, core, counters)
    mesh, shop = traffic_resource("", "REGISTRY_ONLY"), traffic_resource("shop", "ALLOW_ANY")
    async with running(client):
        async with serving(tmp_path, mesh, shop) as server:
            await eventually(lambda: traffic(core) == {"": "REGISTRY_ONLY", "shop": "ALLOW_ANY"})
            server.update(Delta(removed=(shop.id,)), "2")
            await eventually(lambda: traffic(core) == {"": "REGISTRY_ONLY"})
        async with serving(tmp_path, traffic_resource("shop", "REGISTRY_ONLY")):
            await eventually(lambda: traffic(core) == {"shop": "REGISTRY_ONLY"})


async def test_a_control_plane_that_does_not_know_what_may_leave_is_not_waited_for(
    core: Core, counters: Counters, tmp_path: Path
) -> None:
    client = client_of(tmp_path, core, counters)
    async with recording(tmp_path) as server, running(client):
        for type_url in (AUTHORIZATION, ADDRESS):
            server.say.put_nowait(push(type_url))
        await eventually(lambda: not client.missing)
        assert traffic(core) == {}


async def test_parts_come_into_force_together(core: Core) -> None:
    def apply(type_url: str, *resources: Resource, partial: bool = False) -> None:
        response = push(type_url, *resources)
        response.partial = partial
        assert core.apply(response.SerializeToString(), []).rejected == []

    apply(ADDRESS, workload("a"), partial=True)
    assert names(core) == []
    assert b"default/a" in core.held(ADDRESS), "it is not sent again to whom comes back"
    apply(AUTHORIZATION)
    assert names(core) == [], "of the other type there is still more to come"
    apply(ADDRESS, workload("b"))
    assert names(core) == ["a", "b"]


async def test_what_is_a_workloads_own_is_merged_into_what_its_template_says(core: Core) -> None:
    template = Template.of(
        Workload(namespace="default", node="n1", service_account="shop", tunnel_protocol=HBONE)
    )
    own = Address(workload=Workload(uid="u", name="a", addresses=[bytes([10, 0, 0, 1])]))
    whole = Workload()
    whole.CopyFrom(template.workload)
    whole.MergeFrom(own.workload)
    dumps = []
    for one in (
        templated_resource("u", template, own, (), ()),
        address_resource("u", Address(workload=whole), ()),
    ):
        for type_url, resources in ((ADDRESS, [one]), (AUTHORIZATION, [])):
            assert core.apply(push(type_url, *resources).SerializeToString(), []).rejected == []
        dumps.append(json.loads(core.dump())["workloads"])
    assert dumps[0] == dumps[1]
    assert "/sa/shop" in json.dumps(dumps[0])


async def test_a_server_that_does_not_take_so_many_versions_sends_everything(
    core: Core, counters: Counters, tmp_path: Path
) -> None:
    client = client_of(tmp_path, core, counters)
    async with recording(tmp_path, most=1000) as server, running(client):
        many = [workload(f"w{number}", bytes([10, 1, number, 1])) for number in range(50)]

        def first() -> list[DeltaDiscoveryRequest]:
            return [one for one in server.heard if one.type_url == ADDRESS and one.node.id]

        await eventually(first)
        server.say.put_nowait(push(ADDRESS, *many))
        await eventually(lambda: len(names(core)) == 50)
        server.say.put_nowait(None)
        await eventually(lambda: counters.xds_ends.get("Error") == 1)
        await eventually(lambda: len(first()) == 2)
        assert not first()[1].initial_resource_versions
        assert len(names(core)) == 50, "until then what there was is in force"
        for _ in range(2):  # one of them may go to the stream that has failed
            server.say.put_nowait(push(ADDRESS, workload("new"), many[7]))
        await eventually(lambda: names(core) == ["new", "w7"])
        server.say.put_nowait(push(ADDRESS, workload("newer")))
        await eventually(lambda: names(core) == ["new", "newer", "w7"])


async def test_what_makes_no_sense_is_refused(core: Core, counters: Counters, tmp_path: Path) -> None:
    client = client_of(tmp_path, core, counters)
    async with recording(tmp_path) as server, running(client):

        async def refused(time: int) -> str:
            """Why the tunnel has refused something, by the number of the time."""

            def said() -> list[str]:
                return [one.error_detail.message for one in server.heard if one.error_detail.message]

            return (await eventually(lambda: said()[time - 1 :]))[0]

        server.say.put_nowait(push("type.googleapis.com/other.Type"))
        assert "not subscribed" in await refused(1)
        wrong = Resource("type.googleapis.com/other.Type", "x", "1", b"")
        server.say.put_nowait(push(ADDRESS, wrong, workload("a")))
        assert await refused(2) == "x: is a 'type.googleapis.com/other.Type'"
        assert names(core) == ["a"]
        many = [bad(f"b{number}") for number in range(80)]
        server.say.put_nowait(push(ADDRESS, *many))
        assert (await refused(3)).endswith("; and 30 more")


async def test_over_tls_the_token_goes_along_and_the_server_is_verified(
    core: Core, counters: Counters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, workload("a")):
        pass  # makes the root
    recorder, server = Recorder(), grpc.aio.server()
    recorder.add_to(server)
    from agent.xds.certificate import serving_certificate  # noqa: PLC0415

    credentials = grpc.ssl_server_credentials([serving_certificate(tmp_path, IPv4Address("127.0.0.1"))])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    token = tmp_path / "token"
    token.write_text("secret\n")
    url = f"https://127.0.0.1:{port}"
    source = Configuration(url, tmp_path / "xds-root.pem", token)
    async with running(XdsClient(core, source, "node1", "Kubernetes", counters)):
        await eventually(lambda: recorder.metadata)
        assert recorder.metadata[0]["authorization"] == "Bearer secret"
    async with running(XdsClient(core, Configuration(url), "node1", "Kubernetes", counters)):
        await eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text or "UNAVAILABLE" in caplog.text)
        assert len(recorder.metadata) == 1
    missing = Configuration(url, tmp_path / "none.pem")
    async with running(XdsClient(core, missing, "node1", "Kubernetes", counters)):
        await eventually(lambda: counters.xds_ends.get("ConnectionError"))
    await server.stop(None)
