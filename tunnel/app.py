"""The tunnel's process: what runs in it beside what all processes over the core have."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from protocols import admin
from tunnel import usage
from tunnel._core import Core
from tunnel.handover import Generation, Places
from tunnel.keeper import Keeper
from tunnel.outlasting import leave_container
from tunnel.pods import Pods
from tunnel.process import Process
from tunnel.settings import TunnelSettings
from tunnel.succession import Succession
from tunnel.zds import ZdsClient


class Tunnel(Process):
    """Serves the pods of a node, of which the agent tells."""

    def __init__(self, settings: TunnelSettings, number: int | None = None) -> None:
        """number: of a keeper's generation. Raises OSError, ValueError when the core cannot be had."""
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
            kept=number is not None,
            standby=number is not None,
        )
        super().__init__(settings, core)
        self._all = Pods(core, settings.trust_domain, self._counters, self._pods_changed)
        self._zds = ZdsClient(settings.zds, self._all, self._counters)
        self._succession = None if number is None else self._succeeding(settings, number)

    def _succeeding(self, settings: TunnelSettings, number: int) -> Succession:
        return Succession(
            self._core,
            self._all,
            Places(settings.zds.parent),
            number,
            settings.drain_age,
            pending=self.pending,
            begin=super()._begin,
            end=self._end,
            stop=self._stop.set,
        )

    @property
    def generations(self) -> list[Generation]:
        """All that carry connections of this node, where they follow each other."""
        return self._succession.generations if self._succession else []

    async def _begin(self) -> None:
        if self._succession is None:  # else when it is our turn
            await super()._begin()

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
        # When it is our turn to listen, and when no more.
        if self._succession:
            yield self._succession.run()
        yield from super()._tasks()

    async def run(self) -> None:
        """Work until told to stop, or followed and of no more use; then drain. Raises OSError."""
        try:
            await super().run()
        finally:
            if self._succession:
                self._succession.close()


def run(settings: TunnelSettings) -> None:
    """Run a tunnel until SIGTERM, SIGINT or POST /quitquitquit, or the keeper of a node's tunnels.

    Raises OSError, ValueError, KeeperError.
    """

    async def main(number: int | None = None) -> None:
        await Tunnel(settings, number).run()

    def generation(number: int) -> None:
        if settings.cgroup:
            leave_container(settings.cgroup)
        usage.begin()
        asyncio.run(main(number))

    if settings.keep_listeners:
        Keeper(Places(settings.zds.parent), generation).run()
    asyncio.run(main())
