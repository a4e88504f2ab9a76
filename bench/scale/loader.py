"""Brings a cluster into an API server."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bench.errors import BenchError
from bench.scale import cluster
from bench.scale.api import AT_A_TIME, Api
from bench.scale.cluster import Object, Size

Progress = Callable[[str, int], None]  # what, and how many of it more


def kinds(size: Size) -> dict[str, tuple[int, Callable[[Size], Iterable[Object]]]]:
    """In the order in which they are made: how many of each, and all of them."""
    return {
        "Namespace": (min(cluster.NAMESPACES, size.services), cluster.namespaces),
        "Node": (size.nodes, cluster.nodes),
        "ServiceAccount": (size.services, cluster.service_accounts),
        "Service": (size.services, cluster.services),
        "Pod": (size.pods, cluster.pods),
    }


async def load(api: Api, size: Size, progress: Progress) -> None:
    """Make what is missing. Raises BenchError."""
    there = await api.count("Pod")
    if there > size.pods:
        raise BenchError(f"the server has {there} pods already: give an empty one, or --pods {there}")
    for kind, (count, make) in kinds(size).items():
        if await api.count(kind) >= count:
            progress(kind, count)
            continue
        items = iter(make(size))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_A_TIME):
                tasks.create_task(_create(api, kind, items, progress))


async def _create(api: Api, kind: str, items: Iterator[Object], progress: Progress) -> None:
    while some := [*islice(items, 1)]:
        await api.create(some[0])
        progress(kind, 1)
