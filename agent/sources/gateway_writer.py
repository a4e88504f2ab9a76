"""Writes the status of GatewayClasses, Gateways and ListenerSets that are ours.

Much changes what it says (routes, pods, grants): all of them are looked at again after a change, but not
more than once a second, and written where they say something else.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from agent.kube import conditions
from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.listwatch import Name
from agent.model.schema.gateway.base import GATEWAY
from agent.model.schema.objects import Key
from agent.model.translation.gateways.status import ListenerStatus, Status
from agent.model.translation.routes.status import Condition
from agent.sources.kube import Kube

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between two looks at all of them
_FAILED = 10.0  # seconds after which a write that failed is tried again

Statuses = Callable[[], Mapping[Key, Status]]


class GatewayWriter:
    """One write for each object whose status is to say something else."""

    def __init__(self, client: Client, kube: Kube) -> None:
        self._client, self._kube = client, kube
        self._statuses: Statuses | None = None
        self._written: dict[Key, Status] = {}
        self._news = asyncio.Event()

    def tell(self, statuses: Statuses, changed: Iterable[Key]) -> None:
        """What they are to say now, if asked. An object that has changed itself is written anew."""
        self._statuses = statuses
        for key in changed:
            self._written.pop(key, None)
        self._news.set()

    async def run(self) -> None:
        """For good. What cannot be written is logged, and tried again."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._statuses:
                wanted = await asyncio.to_thread(self._statuses)
                for key in [key for key, status in wanted.items() if self._written.get(key) != status]:
                    await self._write(key, wanted[key])
            await asyncio.sleep(_LOOK)

    async def _write(self, key: Key, status: Status) -> None:
        try:
            await asyncio.to_thread(self._put, key, status)
        except ApiError as error:
            if error.status != 404:  # it is gone
                log.warning("status of %s cannot be written, trying again: %s", key, error)
                asyncio.get_running_loop().call_later(max(_FAILED, error.retry_after), self._news.set)
                return
        self._written[key] = status

    def _put(self, key: Key, status: Status) -> None:
        """Blocks. Raises ApiError."""
        name = Name(key.namespace, key.name)
        paths = (one.watcher.path_to(name) for one in self._kube.following if one.cache.kind.name == key.kind)
        if path := next(paths, None):
            conditions.write(self._client, path, partial(_merged, status, conditions.now()))


def _merged(status: Status, now: str, former: Mapping[str, Any], generation: int) -> dict[str, Any]:
    """Conditions of others stay."""
    own = partial(_conditions, now=now, generation=generation)
    merged: dict[str, Any] = {"conditions": own(status.conditions, former.get("conditions"))}
    if status.listeners is not None:
        before = {one.get("name"): one.get("conditions") for one in former.get("listeners") or ()}
        merged["listeners"] = [
            _listener(one, own(one.conditions, before.get(one.name))) for one in status.listeners
        ]
    if status.addresses:
        merged["addresses"] = [{"type": "IPAddress", "value": str(one)} for one in status.addresses]
    return merged


def _listener(status: ListenerStatus, written: list[Any]) -> dict[str, Any]:
    kinds = [{"group": GATEWAY, "kind": kind} for kind in status.kinds]
    return {
        "name": status.name,
        "supportedKinds": kinds,
        "attachedRoutes": status.attached,
        "conditions": written,
    }


def _conditions(wanted: Iterable[Condition], former: Any, now: str, generation: int) -> list[Any]:
    before = {one.get("type"): one for one in former or ()}
    written = {}
    for one in wanted:
        status, known = "True" if one.status else "False", before.get(one.type, {})
        since = known.get("lastTransitionTime") if known.get("status") == status else None
        written[one.type] = {
            "type": one.type,
            "status": status,
            "reason": one.reason,
            "message": one.message,
            "observedGeneration": generation,
            "lastTransitionTime": since or now,
        }
    return [*({**before, **written}).values()]
