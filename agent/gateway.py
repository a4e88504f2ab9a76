"""Configuration for one gateway: what a node's agent serves to its tunnel, beside the gateway in its own pod.

It needs nothing of the node, and reads the Secrets that its own account may read.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Literal

from msgspec import Struct

from agent import memory
from agent.credentials.listeners import ListenerKeeper
from agent.credentials.secrets import from_api, from_folder
from agent.fetching import Reach
from agent.lifetime import told_to_end, until_first
from agent.model.mesh import Mesh
from agent.model.model import Model, apply
from agent.model.resources import Delta
from agent.model.unread import Unread
from agent.sources.key_sets import KeySets
from agent.sources.opening import open_source
from agent.xds.server import XdsServer

log = logging.getLogger(__name__)


class Settings(Struct, frozen=True):
    """socket: where the gateway of pod `namespace/pod` asks. source: `kube`, or a folder of manifests.

    jwks_reach, jwks_redirects: how far key sets are fetched from.
    """

    source: Path | Literal["kube"]
    socket: Path
    namespace: str
    pod: str
    mesh: Mesh
    kubeconfig: Path | None = None
    jwks_reach: Reach = "private"
    jwks_redirects: bool = False


class GatewayAgent:
    """One gateway's."""

    def __init__(self, settings: Settings) -> None:
        """Opens what may be refused. Raises WarrenError."""
        self._settings = settings
        self._model = Model(settings.mesh)
        self._source, _, client = open_source(settings.source, settings.kubeconfig, "")
        folder = Path(settings.source)
        secrets = from_api(client) if client else from_folder(folder)
        maps = from_api(client, "ConfigMap") if client else from_folder(folder, "ConfigMap")
        self._listeners = ListenerKeeper(secrets, maps, only=f"{settings.namespace}/{settings.pod}")
        self._keys = KeySets(settings.jwks_reach, redirects=settings.jwks_redirects)
        self._xds = XdsServer(unknown_key=self._keys.renew)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. The gateway goes on with what it has."""
        try:
            await until_first(told_to_end().wait(), self._follow(), self._listeners.run(self._publish))
        finally:
            self._source.close()
            await self._xds.stop()

    async def _follow(self) -> None:
        """The source, from the first whole state on."""
        serving = False
        async for changes in self._keys.follow(self._source.changes()):
            since = time.monotonic()
            self._model, delta = await asyncio.to_thread(apply, self._model, changes)
            self._publish(await self._listeners.follow(delta), since)
            if not serving:
                serving = True
                await asyncio.to_thread(memory.after_loading)
                await self._xds.start(self._settings.socket)

    def _publish(self, delta: Delta, since: float | None = None) -> None:
        rejected = (one.key for one in self._source.rejected)
        unread = Unread.of(self._settings.mesh, self._model.store.objects, rejected)
        self._xds.update(delta, self._model.version, unread, since)
