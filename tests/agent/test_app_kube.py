"""The whole agent with an API server for its source."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agent.cli import main
from agent.model.resources import ADDRESS, AUTHORIZATION
from tests.agent.xds.client import Client as XdsClient
from tests.agent.zds.client import snapshot
from tests.support import bookinfo
from tests.support.apiserver import Fake
from tests.support.cluster import AMBIENT, Cluster
from tests.support.cni import Plugin
from tests.support.custom import install, policy, post
from tests.support.eventually import eventually
from tests.support.netns import Pod
from tests.support.resident import Resident
from tests.support.wait import PATIENCE
from tests.support.world import World, cookies


async def resources(world: World, namespace: str) -> dict[str, tuple[str, bytes]]:
    """Version and bytes of what a tunnel is told of a namespace."""
    async with world.agent(), XdsClient(f"unix:{world.settings.run_dir}/xds.sock") as client:
        await client.ask(ADDRESS)
        told = {one.name: (one.version, one.resource.value) for one in (await client.hear()).resources}
    return {name: one for name, one in told.items() if namespace in name}


async def test_bookinfo_is_the_same_from_both_sources(world: World, cluster: Cluster) -> None:
    namespace = cluster.namespace
    items = bookinfo.objects(namespace)
    bookinfo.create(cluster, items)
    labelled: Any = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": AMBIENT},
    }
    bookinfo.write(world.source, [labelled, *items])
    read = await resources(world, namespace)
    world.configure(source="kube", kubeconfig=cluster.kubeconfig)
    assert await resources(world, namespace) == read
    assert len(read) == 4 + 6


async def test_metrics_of_the_source(world: World, cluster: Cluster) -> None:
    world.configure(source="kube", kubeconfig=cluster.kubeconfig)
    async with world.agent():
        page = await world.page("/metrics")
        assert "warren_agent_source_age_seconds 0.0" in page
        assert 'warren_agent_kinds{kind="Pod",state="current"} 1.0' in page
        assert 'warren_agent_kinds{kind="ServiceEntry",state="' in page
        assert "warren_agent_rejected_objects 0.0" in page


class Site:
    """A node whose agent follows a fake server with Istio's kinds, and whose pods a runtime starts."""

    def __init__(self, world: World, fake: Fake) -> None:
        install(fake.kubeconfig)
        self.world, self.fake, self.admin = world, fake, Cluster(fake.kubeconfig)
        world.configure(source="kube", kubeconfig=fake.kubeconfig)
        self.plugin = Plugin(world.settings.run_dir / "cni.sock")

    def pod(self) -> Pod:
        """One that the server knows and that is about to be started."""
        pod = self.world.node.pod()
        self.admin.pod(pod.name, "n1", "default")
        return pod

    async def add(self, pod: Pod) -> str:
        """The runtime's call; why it is refused, empty if it is not."""
        name = f"{self.admin.namespace}/{pod.name}"
        ips = [str(address) for address in pod.addresses]
        done = await self.plugin.add(f"c-{pod.name}", pod.path, name, "", ips)
        return "" if done.code == 0 else done.output

    async def ready(self) -> str:
        return (await self.world.page("/healthz/ready")).partition("\r\n\r\n")[2]

    def forbid(self, *resources: str) -> None:
        self.fake.faults.refuse = lambda verb, resource: (
            403 if verb in ("list", "watch") and resource in resources else None
        )
        self.fake.cut_watches()

    def allow(self) -> None:
        self.fake.faults.refuse = lambda verb, resource: None

    def spoil(self, name: str) -> None:
        """Let a pod be what we refuse."""
        status = ("api", "v1", "namespaces", self.admin.namespace, "pods", name, "status")
        self.admin.patch({"status": {"podIP": "no address"}}, *status)


@pytest.fixture
def site(world: World, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("agent.kube.watch._LONGEST", 0.5)
    monkeypatch.setattr("agent.node.pods._KNOWN_WITHIN", 0.5)
    it = Site(world, fake)
    yield it
    it.admin.close()


FORBIDDEN = "not ready: AuthorizationPolicy: {} is forbidden"
RULE = "{apiGroups: ['security.istio.io'], resources: [authorizationpolicies], verbs: [list, watch]}"


async def test_an_agent_that_cannot_read_policies_serves_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    pod, world = site.pod(), site.world
    site.forbid("authorizationpolicies")
    async with world.agent(FORBIDDEN.format("list")) as agent:
        assert RULE in await site.ready()
        assert "AuthorizationPolicy: list is forbidden" in await site.add(pod)
        assert not any((world.settings.run_dir / name).exists() for name in ("xds.sock", "ztunnel.sock"))
        assert 'warren_agent_kinds_unsynced{kind="AuthorizationPolicy"} 1.0' in await world.page("/metrics")
        places = ("--cgroup", str(world.settings.cgroup), "--bpffs", str(world.settings.bpffs))
        where = ("--agent", f"http://127.0.0.1:{world.settings.metrics_port}")
        assert await asyncio.to_thread(main.run, ["check", *places, *where, "--json"]) == 1
        assert "agent: not ready: AuthorizationPolicy: list is forbidden" in capsys.readouterr().out
        site.allow()
        await eventually_ready(site)
        assert not await site.add(pod)
        assert world.captured(agent) == cookies(pod)


async def test_what_is_in_force_stays_while_policies_cannot_be_read(site: Site) -> None:
    old, new = site.pod(), site.pod()
    site.admin.delete_pod(new.name)
    await asyncio.to_thread(post, site.admin, policy("deny"))
    async with site.world.agent() as agent:
        assert not await site.add(old)
        site.forbid("authorizationpolicies")
        await says(site, FORBIDDEN)
        site.admin.pod(new.name, "n1", "default")
        assert "AuthorizationPolicy: " in await site.add(new)
        assert site.world.captured(agent) == cookies(old)
        async with XdsClient(f"unix:{site.world.settings.run_dir}/xds.sock") as client:
            await client.ask(AUTHORIZATION)
            assert "default/deny" in [one.name for one in (await client.hear()).resources]
        assert 'warren_agent_cni_calls_total{command="ADD",result="refused"} 1.0' in await site.world.page(
            "/metrics"
        )
        site.allow()
        await eventually_ready(site)
        assert not await site.add(new)
        assert site.world.captured(agent) == cookies(old, new)


async def test_a_tunnel_that_comes_while_the_server_is_away_hears_what_is_in_force(site: Site) -> None:
    pod = site.pod()
    await asyncio.to_thread(post, site.admin, policy("deny"))
    async with site.world.agent():
        assert not await site.add(pod)
        await asyncio.to_thread(site.fake.stop)
        try:
            page = current = "warren_agent_source_age_seconds 0.0"
            async with asyncio.timeout(PATIENCE):
                while current in page:
                    page = await site.world.page("/metrics")
            run_dir = site.world.settings.run_dir
            tunnel = Resident(site.world.node.make_cgroup("tunnel"))
            try:
                told = await asyncio.to_thread(tunnel.call, snapshot, run_dir / "ztunnel.sock")
            finally:
                tunnel.close()
            assert len(told) == 1, told
            async with XdsClient(f"unix:{run_dir}/xds.sock") as client:
                await client.ask(AUTHORIZATION)
                assert "default/deny" in [one.name for one in (await client.hear()).resources]
        finally:
            await asyncio.to_thread(site.fake.start)


async def test_one_invalid_object_keeps_nothing_but_what_it_made(site: Site) -> None:
    """After a restart with something to remove: for the kernel and for a tunnel that comes back."""
    goes, stays = site.pod(), site.pod()
    node = site.world.node.pod()
    async with site.world.agent() as agent:
        for pod in (goes, stays):
            assert not await site.add(pod)
        assert site.world.captured(agent) == cookies(goes, stays)
    for pod in (goes, stays):
        site.admin.delete_pod(pod.name)
    for name, where in ((stays.name, "n1"), (node.name, "n2")):
        site.admin.pod(name, where, "default")
        site.spoil(name)
    uids = {pod.name: f"Kubernetes//Pod/{site.admin.namespace}/{pod.name}" for pod in (goes, stays, node)}
    async with site.world.agent() as agent:
        assert "warren_agent_rejected_objects 2.0" in await site.world.page("/metrics")
        await eventually(lambda: site.world.captured(agent) == cookies(stays))
        async with XdsClient(f"unix:{site.world.settings.run_dir}/xds.sock") as client:
            await client.ask(ADDRESS, initial_resource_versions=dict.fromkeys(uids.values(), "1"))
            assert uids[goes.name] in (removed := list((await client.hear()).removed_resources))
            assert not {uids[stays.name], uids[node.name]} & {*removed}
        site.admin.delete_pod(stays.name)
        await eventually(lambda: not site.world.captured(agent))


async def eventually_ready(site: Site) -> None:
    await says(site, "ready\n")


async def says(site: Site, text: str) -> None:
    """Until its readiness begins so, whatever the verb is."""
    head = text.partition("{}")[0]
    said = ""
    async with asyncio.timeout(PATIENCE):
        while not said.startswith(head):
            said = await site.ready()
