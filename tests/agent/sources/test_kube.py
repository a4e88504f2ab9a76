"""An API server as the source: what it tells, whatever happens to it, and that it is the same as a folder's."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.kube.client import Client
from agent.model.model import Model, apply
from agent.model.objects import Key, Object, Pod, Service
from agent.sources.folder import Folder
from agent.sources.kube import Kube
from agent.sources.source import Changes, Source
from tests.support import bookinfo
from tests.support.apiserver import Fake
from tests.support.cluster import AMBIENT, Cluster
from tests.support.eventually import eventually

_TIME = 60.0  # seconds; a server that was away is found again in less


class Following:
    """A source that is followed, and what it told: all that is known at the moment, and each batch."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.batches: list[Changes] = []
        self.known: dict[Key, Object] = {}

    async def follow(self) -> None:
        async for batch in self.source.changes():
            for key, item in batch:
                if item is None:
                    del self.known[key]
                else:
                    self.known[key] = item
            self.batches.append(batch)

    def names(self, kind: str, namespace: str) -> set[str]:
        return {key.name for key in self.known if key[:2] == (kind, namespace)}


@asynccontextmanager
async def following(source: Source) -> AsyncIterator[Following]:
    it = Following(source)
    task = asyncio.create_task(it.follow())
    await until(lambda: bool(it.batches) or task.done())
    yield it
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    source.close()


async def until(condition: Callable[[], bool]) -> None:
    await eventually(condition, _TIME)


def kube(kubeconfig: Path) -> Kube:
    return Kube(Client.load(kubeconfig))


def resources(known: dict[Key, Object], namespace: str) -> dict[tuple[str, str], Any]:
    """What the tunnels would be told of a namespace, to the byte."""
    model, _ = apply(Model(), list(known.items()))
    found = {key: those for key, those in model.resources.items() if key.namespace == namespace}
    return {(one.type_url, one.name): one for those in found.values() for one in those}


async def test_bookinfo_is_the_same_from_a_folder(cluster: Cluster, tmp_path: Path) -> None:
    namespace = cluster.namespace
    items = bookinfo.objects(namespace)
    bookinfo.create(cluster, items)
    labelled = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": AMBIENT}}
    bookinfo.write(tmp_path, [labelled, *items])
    async with following(kube(cluster.kubeconfig)) as served, following(Folder(tmp_path)) as read:
        assert served.source.complete and read.source.complete
        told = resources(served.known, namespace)
        assert told == resources(read.known, namespace)
        assert len(told) == 4 + 6
