"""Writes the addresses that hostnames of ServiceEntries get to `status.addresses`, so that they stay.

What another controller has written there (istiod's automatic allocation) is kept, and is what counts.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from agent.kube import conditions
from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.listwatch import Name
from agent.model.schema.istio.service_entry import HostAddress, ServiceEntry
from agent.model.schema.objects import Key
from agent.sources.kube import Kube

log = logging.getLogger(__name__)

_WRITE = 0.05  # seconds between two writes: thousands of ServiceEntries must not load the server
_FAILED = 10.0  # seconds after which a write that failed is tried again

Allotted = Callable[[Key], tuple[HostAddress, ...]]


class AddressWriter:
    """One write for each ServiceEntry whose status lacks an address."""

    def __init__(self, client: Client, kube: Kube) -> None:
        self._client, self._kube = client, kube
        self._wanted: dict[Key, tuple[HostAddress, ...]] = {}
        self._news = asyncio.Event()

    def tell(self, allotted: Allotted, changed: Iterable[Key]) -> None:
        """What is to be written of objects that are different."""
        for key in changed:
            if key.kind == ServiceEntry.__name__:
                self._wanted.pop(key, None)
                if addresses := allotted(key):
                    self._wanted[key] = addresses
                    self._news.set()

    async def run(self) -> None:
        """For good. What cannot be written is logged, and tried again."""
        while True:
            await self._news.wait()
            self._news.clear()
            for key, addresses in tuple(self._wanted.items()):
                if self._wanted.get(key) is addresses:
                    await self._write(key, addresses)
                    await asyncio.sleep(_WRITE)

    async def _write(self, key: Key, addresses: tuple[HostAddress, ...]) -> None:
        try:
            await asyncio.to_thread(self._put, key, addresses)
        except ApiError as error:
            if error.status != 404:  # it is gone
                log.warning("addresses of %s cannot be written, trying again: %s", key, error)
                asyncio.get_running_loop().call_later(max(_FAILED, error.retry_after), self._news.set)
                return
        if self._wanted.get(key) is addresses:
            del self._wanted[key]

    def _put(self, key: Key, addresses: tuple[HostAddress, ...]) -> None:
        """Blocks. Raises ApiError."""
        name = Name(key.namespace, key.name)
        paths = (one.watcher.path_to(name) for one in self._kube.following if one.cache.kind.name == key.kind)
        if path := next(paths, None):
            conditions.update(self._client, path, "addresses", partial(_merged, addresses))


def _merged(addresses: tuple[HostAddress, ...], former: list[Any], generation: int) -> list[Any]:
    """With addresses for the hostnames that have none."""
    told = {one.get("host") for one in former}
    return [*former, *({"value": one.value, "host": one.host} for one in addresses if one.host not in told)]
