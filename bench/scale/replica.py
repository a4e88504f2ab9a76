"""A replica of `warren discovery` in a process of its own, with a cluster that no API server has to hold.

It reads the pages of a server's lists as its source does, and makes of them what it always makes; what is
left out is how the pages came.
"""

import asyncio
import os
import random
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import msgspec

from agent import memory
from agent.kube.listwatch import Event, ListWatch, Name, Put
from agent.model.kinds import KINDS
from agent.model.mesh import Mesh
from agent.model.model import Change, Model, apply
from agent.sources.kind_cache import KindCache
from agent.xds.certificate import serving_certificate
from agent.xds.server import XdsServer
from bench.cpu import resident
from bench.scale import cluster
from bench.scale.cluster import Size

LOOPBACK = IPv4Address("127.0.0.1")
ROOT = "xds-root.pem"  # by which it is verified, in its folder
_PAGE = 500  # objects
_TICK = 0.05  # seconds between two tellings of a source


class Serving(NamedTuple):
    """port: where it is asked; synced_cpu: seconds, to read everything; peak_mb: resident at most by then."""

    port: int
    synced_cpu: float
    peak_mb: float


class Order(NamedTuple):
    """Pod changes per second, for so many seconds."""

    rate: float
    seconds: float


class Done(NamedTuple):
    """cpu: in percent of one core; p50, p99: milliseconds from a change to its acknowledgement."""

    changes: int
    cpu: float
    mb: float
    p50: float
    p99: float


def run(folder: Path, size: Size, orders: Connection) -> None:
    """Says what it is `Serving`, then `Done` to each `Order`."""
    memory.before_loading()
    asyncio.run(Replica(size).serve(folder, orders))


class Replica:
    def __init__(self, size: Size) -> None:
        self._size = size
        self._caches = {kind: KindCache(KINDS[kind]) for kind in ("Namespace", "Node", "Service", "Pod")}
        self._lists = {kind: ListWatch() for kind in self._caches}
        self._model, self._server = Model(Mesh()), XdsServer()

    async def serve(self, folder: Path, orders: Connection) -> None:
        cpu = self._read()
        memory.after_loading()
        credentials = grpc.ssl_server_credentials([serving_certificate(folder, LOOPBACK)])
        port = await self._server.start_remote((LOOPBACK, 0), credentials, _anyone)
        orders.send(Serving(port, cpu, _peak_mb()))
        while True:
            orders.send(await self._change(await asyncio.to_thread(orders.recv)))

    def _read(self) -> float:
        """Everything there is; gives the CPU seconds."""
        pages = _Pages(self._size)
        began = time.process_time()
        events = (self._caches[kind].take(self._lists[kind].page(page)) for kind, page in pages)
        self._apply([change for changes in events for change in changes])
        return time.process_time() - began - pages.making

    def _apply(self, changes: Iterable[Change], since: float | None = None) -> None:
        self._model, delta = apply(self._model, changes)
        self._server.update(delta, self._model.version, since=since)

    async def _change(self, order: Order) -> Done:
        took: list[float] = []
        self._server.convergence.observe = took.append  # type: ignore[method-assign,assignment]
        began, cpu, count = time.monotonic(), time.process_time(), 0
        chosen = random.Random(7)
        while (now := time.monotonic() - began) < order.seconds:
            since, due = time.monotonic(), int(now * order.rate) - count
            events = [self._event(chosen.randrange(self._size.pods), count + n) for n in range(due)]
            changes = [*self._caches["Pod"].take(events)]
            self._model, delta = await asyncio.to_thread(apply, self._model, changes)
            self._server.update(delta, self._model.version, since=since)
            count += due
            await asyncio.sleep(_TICK)
        used = (time.process_time() - cpu) / (time.monotonic() - began)
        await asyncio.sleep(1.0)  # for the last ones to be acknowledged
        took.sort()
        return Done(count, 100 * used, _mb(), _part(took, 0.5), _part(took, 0.99))

    def _event(self, index: int, number: int) -> Event:
        """A pod of which something is different that tunnels are told."""
        body = cluster.pod(self._size, index)
        body["metadata"]["labels"]["version"] = f"v{number}"
        name = Name(body["metadata"]["namespace"], body["metadata"]["name"])
        return Put(name, msgspec.Raw(msgspec.json.encode(body)))


class _Pages:
    """The answers to the requests for lists, each with its kind. making: CPU seconds for making them."""

    def __init__(self, size: Size) -> None:
        self.making = 0.0
        self._size = size

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        kinds: tuple[Callable[[Size], Iterator[dict[str, Any]]], ...] = (
            cluster.namespaces, cluster.nodes, _services, cluster.pods,
        )  # fmt: skip
        for make in kinds:
            bodies = make(self._size)
            items = self._items(bodies)
            while items:
                page, items = items, self._items(bodies)
                yield page[0]["kind"], self._page(page, last=not items)

    def _items(self, bodies: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
        with self._made():
            return [*islice(bodies, _PAGE)]

    def _page(self, items: list[dict[str, Any]], *, last: bool) -> bytes:
        with self._made():
            metadata = {"resourceVersion": "1", "continue": "" if last else "more"}
            return msgspec.json.encode({"metadata": metadata, "items": items})

    @contextmanager
    def _made(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.making += time.process_time() - began


def service_ip(index: int) -> str:
    return str(IPv4Address("10.96.0.0") + 1 + index)


def _services(size: Size) -> Iterator[dict[str, Any]]:
    """With the addresses that an API server would have given them."""
    for index, body in enumerate(cluster.services(size)):
        body["spec"]["clusterIP"] = service_ip(index)
        yield body


async def _anyone(_: str | None, __: str) -> str:
    return ""


def _mb() -> float:
    return resident(os.getpid()) / 1e6


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _part(took: list[float], share: float) -> float:
    """Milliseconds; of sorted seconds."""
    return 1000 * took[int((len(took) - 1) * share)] if took else 0.0
