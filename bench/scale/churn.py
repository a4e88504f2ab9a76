"""Pods that change at a steady rate."""

import asyncio
import time
from typing import NamedTuple

from bench.scale import cluster
from bench.scale.api import Api
from bench.scale.cluster import Size

# Steps through the pods so that neighbours in time are on other nodes and of other services.
_STRIDE = 7919


class Change(NamedTuple):
    """uid: of the workload. answered: Unix time of the server's answer to the change."""

    uid: str
    answered: float


async def churn(api: Api, size: Size, rate: float, seconds: float, ready: bool) -> list[Change]:
    """Make so many pods a second (not) ready, one after the other, for a time; each is changed at most once.

    Raises BenchError, also when the server is too slow for that.
    """
    changes: list[Change] = []
    start = time.monotonic()

    async def change(index: int) -> None:
        pod = cluster.pod(size, index * _STRIDE % size.pods)
        status = pod["status"]
        next(one for one in status["conditions"] if one["type"] == "Ready")["status"] = str(ready)
        await api.set_status(pod, {"conditions": status["conditions"]})
        metadata = pod["metadata"]
        uid = f"Kubernetes//Pod/{metadata['namespace']}/{metadata['name']}"
        changes.append(Change(uid, time.time()))

    async with asyncio.TaskGroup() as tasks:
        for index in range(int(rate * seconds)):
            await asyncio.sleep(start + index / rate - time.monotonic())
            tasks.create_task(change(index))
    return changes
