"""The tunnel's process: what runs in it beside what all processes over the core have."""

import asyncio
import ctypes
import logging
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

from protocols.report import Generation, Served
from tunnel import usage
from tunnel._core import Core
from tunnel.handover import Places
from tunnel.keeper import Keeper
from tunnel.outlasting import leave_container
from tunnel.pods import Pods
from tunnel.process import Process
from tunnel.settings import TunnelSettings
from tunnel.succession import Succession
from tunnel.zds import ZdsClient

log = logging.getLogger("warren.tunnel")


class Tunnel(Process):
    """Serves the pods of a node, of which the agent tells."""

    def __init__(
        self, settings: TunnelSettings, number: int | None = None, *, outlasts: bool = False
    ) -> None:
        """number: of a keeper's generation; outlasts: its container.

        Raises OSError, ValueError when the core cannot be had.
        """
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
        self._succession: Succession | None = None
        self._all = Pods(core, settings.trust_domain, self._counters, self._pods_changed)
        self._zds = ZdsClient(settings.zds, self._all, self._counters)
        if number is not None:
            self._succession = self._succeeding(settings, number, outlasts)

    def _succeeding(self, settings: TunnelSettings, number: int, outlasts: bool) -> Succession:
        return Succession(
            self._core,
            self._all,
            Places(settings.zds.parent),
            number,
            settings.drain_age,
            outlasts=outlasts,
            pending=self.pending,
            begin=super()._begin,
            end=self._end,
            stop=self._stop.set,
        )

    @property
    def generations(self) -> list[Generation]:
        """All that carry connections of this node, where they follow each other."""
        return self._succession.generations if self._succession else []

    def retired(self) -> Mapping[int, str]:
        """What those have counted that serve no more."""
        return self._succession.retired() if self._succession else {}

    async def _begin(self) -> None:
        if self._succession is None:  # else when it is our turn
            await super()._begin()

    def _pods_changed(self, identities: set[str]) -> None:
        self._certificates.use(identities)
        self._names.changed()
        if self._succession:
            self._succession.look()

    @property
    def _pods(self) -> Served:
        return Served(self._all.served, self._all.pending)

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
        if self._succession and self._succession.failure:
            raise self._succession.failure


def run(settings: TunnelSettings) -> None:
    """Run a tunnel until SIGTERM, SIGINT or POST /quitquitquit, or the keeper of a node's tunnels.

    Raises OSError, ValueError, KeeperError.
    """

    async def main(number: int | None = None, *, outlasts: bool = False) -> None:
        await Tunnel(settings, number, outlasts=outlasts).run()

    def generation(number: int) -> None:
        usage.begin()
        asyncio.run(main(number, outlasts=_outlasts(settings)))

    if settings.keep_listeners:
        ctypes.CDLL(None).malloc_trim(0)  # after loading: each generation would pay for it again
        Keeper(Places(settings.zds.parent), generation).run()
    asyncio.run(main())


def _outlasts(settings: TunnelSettings) -> bool:
    """Whether this process is where it outlasts its container, now."""
    if settings.cgroup is None:
        return False
    try:
        leave_container(settings.cgroup, settings.zds.with_name("cgroup-ns"))
    except OSError as error:
        log.warning("connections will end with this container: --cgroup %s: %s", settings.cgroup, error)
        return False
    return True
