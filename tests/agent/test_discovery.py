"""`warren discovery`: replicas that are each whole, agents that read their own pods alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest

from agent.discovery import Discovery, Settings
from agent.model.mesh import Mesh
from agent.model.resources import ADDRESS, CREDENTIAL
from agent.xds.certificate import serving_certificate
from agent.xds.upstream import Place
from tests.agent.xds.client import Client
from tests.support import apiserver
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster
from tests.support.custom import install
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.wait import PATIENCE
from tests.support.world import World

LOOPBACK = IPv4Address("127.0.0.1")


class Site:
    """A server with the pods of two nodes, and replicas of discovery for it."""

    def __init__(self, fake: Fake, folder: Path, audit: Path) -> None:
        install(fake.kubeconfig)
        self.fake, self.folder, self.audit, self.admin = fake, folder, audit, Cluster(fake.kubeconfig)
        key, chain = serving_certificate(folder, LOOPBACK)
        (folder / "key.pem").write_bytes(key)
        (folder / "chain.pem").write_bytes(chain)
        for account in ("warren-node", "other"):
            self.admin.account(account)
            self.admin.pod(account, "n1", account)
        self.admin.account("web")
        for number, (name, node) in enumerate((("own", "n1"), ("far", "n2")), 1):
            self.admin.pod(name, node, "web")
            self.run(name, f"10.9.0.{number}")
        self.place = Place(f"127.0.0.1:{free_port()}", folder / "xds-root.pem", folder / "token")
        self.place.token.write_text(self.token())

    def run(self, pod: str, address: str) -> None:
        """Say of a pod that it runs, as its kubelet does."""
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        within = ("api", "v1", "namespaces", self.admin.namespace, "pods", pod, "status")
        self.admin.patch({"status": status}, *within)

    def token(self, account: str = "warren-node", audience: str = "istio-ca") -> str:
        return self.admin.token(account, account, audience)

    @asynccontextmanager
    async def replica(self, port: int = 0) -> AsyncIterator[str]:
        """One that serves; gives its address. port: 0 for the one at which agents ask."""
        port = port or int(self.place.address.rpartition(":")[2])
        settings = Settings(
            source="kube",
            listen=(LOOPBACK, port),
            certificate=self.folder / "chain.pem",
            key=self.folder / "key.pem",
            mesh=Mesh(),
            metrics_port=0,
            kubeconfig=self.fake.kubeconfig,
            accounts=frozenset({f"{self.admin.namespace}/warren-node"}),
        )
        discovery = Discovery(settings)
        ended = asyncio.Event()
        running = asyncio.create_task(discovery.serve(ended))
        await eventually(lambda: running.done() or discovery.serving)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            ended.set()
            await running

    def client(self, address: str, token: str | None = None) -> Client:
        shown = self.token() if token is None else token
        return Client(address, self.place.root, {"authorization": f"Bearer {shown}"} if shown else {})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    audit = tmp_path / "audit.log"
    with apiserver.fake(audit_log=audit) as fake:
        (folder := tmp_path / "tls").mkdir()
        made = Site(fake, folder, audit)
        yield made
        made.admin.close()


async def test_replicas_tell_the_same_and_a_client_goes_on_at_another(site: Site) -> None:
    async with site.replica() as first, site.replica(free_port()) as second:
        async with site.client(first) as client:
            await client.ask(ADDRESS)
            told = {one.name: one.version for one in (await client.hear()).resources}
        namespace = site.admin.namespace
        assert {f"Kubernetes//Pod/{namespace}/{name}" for name in ("own", "far")} <= told.keys()
        async with site.client(second) as client:
            await client.ask(ADDRESS, initial_resource_versions=told)
            response = await client.hear()
            assert (list(response.resources), list(response.removed_resources)) == ([], [])


async def test_only_a_tunnels_token_is_let_in(site: Site) -> None:
    async with site.replica() as address:
        for token in ("", "nonsense", site.token("other"), site.token(audience="vault")):
            async with site.client(address, token) as client:
                assert await client.ended() is grpc.StatusCode.UNAUTHENTICATED, token
        async with site.client(address) as client:
            await client.ask(CREDENTIAL)
            assert not (await client.hear()).resources, "private keys stay where they are"


async def test_an_agent_reads_its_own_pods_and_hands_on_the_rest(site: Site, world: World) -> None:
    world.configure(source="kube", kubeconfig=site.fake.kubeconfig, discovery=site.place)
    socket = f"unix:{world.settings.run_dir}/xds.sock"
    async with world.agent("503"):
        assert "discovery: no connection to" in await world.page("/healthz/ready")
        async with site.replica():
            await _ready(world)
            async with Client(socket) as tunnel:
                await tunnel.ask(CREDENTIAL)
                assert (await tunnel.hear()).type_url == CREDENTIAL
                await tunnel.ask(ADDRESS)
                told = {one.name: one.version for one in (await tunnel.hear()).resources}
                assert f"Kubernetes//Pod/{site.admin.namespace}/far" in told
        async with Client(socket) as tunnel:  # nobody answers: it keeps what it has
            await tunnel.ask(ADDRESS)
            assert await tunnel.ended() is grpc.StatusCode.UNAVAILABLE
        async with site.replica():  # another one, at the same Service
            await _ready(world)
            site.admin.delete_pod("far")
            async with Client(socket) as tunnel:
                await tunnel.ask(ADDRESS, initial_resource_versions=told)
                response = await tunnel.hear()
                while not response.removed_resources:
                    await tunnel.acknowledge(response)
                    response = await tunnel.hear()
                assert list(response.removed_resources) == [f"Kubernetes//Pod/{site.admin.namespace}/far"]
    lines = [json.loads(line) for line in site.audit.read_text().splitlines()]
    pods = [line for line in lines if line["verb"] in ("list", "watch") and line["resource"] == "pods"]
    assert any("fieldSelector=spec.nodeName%3Dn1" in line["uri"] for line in pods)


async def _ready(world: World) -> None:
    async with asyncio.timeout(PATIENCE):
        while "200 OK" not in await world.page("/healthz/ready"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
