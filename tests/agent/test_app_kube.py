"""The whole agent with an API server for its source."""

from typing import Any

from agent.model.resources import ADDRESS
from tests.agent.xds.client import Client as XdsClient
from tests.support import bookinfo
from tests.support.cluster import AMBIENT, Cluster
from tests.support.world import World


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
    world.configure(source="kube", kubeconfig=cluster.kubeconfig, namespace=namespace)
    assert await resources(world, namespace) == read
    assert len(read) == 4 + 6


async def test_metrics_of_the_source(world: World, cluster: Cluster) -> None:
    world.configure(source="kube", kubeconfig=cluster.kubeconfig, namespace=cluster.namespace)
    async with world.agent():
        page = await world.page("/metrics")
        assert "warren_agent_source_age_seconds 0.0" in page
        assert 'warren_agent_kinds{kind="Pod",state="current"} 1.0' in page
        assert 'warren_agent_kinds{kind="ServiceEntry",state="' in page
        assert "warren_agent_rejected_objects 0.0" in page
