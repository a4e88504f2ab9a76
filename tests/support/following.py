"""A source that is followed, and what it told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.kube.client import Client
from agent.model.schema.objects import Key, Object
from agent.sources.kube import Kube
from agent.sources.source import Changes, Source
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
                    self.known.pop(key, None)  # on a real server others come and go
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
