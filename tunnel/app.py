"""The tunnel's process: what runs in it beside what all processes over the core have."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from protocols import admin
from tunnel._core import Core
from tunnel.pods import Pods
from tunnel.process import Process
from tunnel.settings import TunnelSettings
from tunnel.zds import ZdsClient


class Tunnel(Process):
    """Serves the pods of a node, of which the agent tells."""

    def __init__(self, settings: TunnelSettings) -> None:
        """Raises OSError, ValueError when the core cannot be had."""
        core = Core(
            node=settings.node,
            workers=settings.workers,
            spin_us=settings.spin_us,
            access_log=settings.log,
            on_demand=settings.cluster if settings.xds.on_demand else None,
            crl=settings.crl is not None,
            path_normalization=settings.path_normalization,
            direct=(settings.direct, settings.zds.with_name("direct.lock")) if settings.direct else None,
            dns=settings.bpffs if settings.dns_capture else None,
            pending=(settings.bpffs, settings.zds.with_name("pending.lock")) if settings.bpffs else None,
        )
        super().__init__(settings, core)
        self._all = Pods(core, settings.trust_domain, self._counters, self._pods_changed)
        self._zds = ZdsClient(settings.zds, self._all, self._counters)

    def _pods_changed(self, identities: set[str]) -> None:
        self._certificates.use(identities)
        self._names.changed()

    @property
    def _pods(self) -> admin.Served:
        return admin.Served(self._all.served, self._all.pending)

    @property
    def _knows_pods(self) -> bool:
        return self._zds.synced

    def _tasks(self) -> Iterator[Coroutine[Any, Any, Any]]:
        # Which pods there are: without it nobody is served.
        yield self._zds.run()
        # What could not be served may be served later, when a port or a namespace is free.
        yield self._all.retry_forever()
        yield from super()._tasks()


def run(settings: TunnelSettings) -> None:
    """Run a tunnel until SIGTERM, SIGINT or POST /quitquitquit. Raises OSError, ValueError."""

    async def main() -> None:
        await Tunnel(settings).run()

    asyncio.run(main())
