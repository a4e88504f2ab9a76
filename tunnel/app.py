"""The tunnel's process: what runs in it, and how it ends."""

import asyncio
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor

from protocols import admin
from protocols.version import version
from tunnel._core import Core
from tunnel.certificates import AuthorityClient, Certificates
from tunnel.counters import Counters
from tunnel.endpoints import Endpoints
from tunnel.pods import Pods
from tunnel.revocation import RevocationLists
from tunnel.settings import Settings
from tunnel.xds import XdsClient
from tunnel.zds import ZdsClient

log = logging.getLogger("warren.tunnel")


class Tunnel:
    """Everything in the process, made once and connected here."""

    def __init__(self, settings: Settings) -> None:
        """Raises OSError, ValueError when the core cannot be had."""
        self._settings = settings
        self._stop = asyncio.Event()
        self._counters = counters = Counters()
        self._core = core = Core(
            node=settings.node,
            workers=settings.workers,
            spin_us=settings.spin_us,
            access_log=settings.access_log + (",json" if settings.log_format == "json" else ""),
            on_demand=settings.cluster if settings.xds.on_demand else None,
            crl=settings.crl is not None,
            direct=(settings.direct, settings.zds.with_name("direct.lock")) if settings.direct else None,
            pending=(settings.bpffs, settings.zds.with_name("pending.lock")) if settings.bpffs else None,
        )
        self._authority = authority = AuthorityClient(core, settings.ca, settings.cluster)
        self._certificates = Certificates(core, authority, counters)
        self._revocation = RevocationLists(core, settings.crl, counters, self._certificates.renew)
        self._pods = Pods(core, settings.trust_domain, counters, self._certificates.use)
        self._zds = ZdsClient(settings.zds, self._pods, counters)
        self._xds = XdsClient(core, settings.xds, settings.node, settings.cluster, counters)
        self._endpoints = Endpoints(
            core,
            counters,
            pending=self.pending,
            warnings=self.warnings,
            report=self.report,
            quit=self.stop,
        )

    def pending(self) -> list[str]:
        """What is missing before the tunnel does its whole job."""
        if self._stop.is_set():
            return ["the end of the drain"]
        waits = [f"configuration ({name})" for name in self._xds.missing]
        waits += [] if self._zds.synced else ["pods (agent)"]
        waits += [f"pod {name}" for name in self._pods.pending]
        waits += [f"certificate of {identity}" for identity in self._certificates.pending]
        waits += self._revocation.pending
        return waits

    def warnings(self) -> list[str]:
        """What is not as it should be, although the tunnel does its job."""
        return self._revocation.warnings

    async def report(self) -> admin.Report:
        """For `warren check`: every seam of ours, and what is wrong at it."""
        return admin.Report(
            version=version(),
            draining=self._stop.is_set(),
            agent=admin.Link(self._zds.synced, self._counters.xds_connected.get() == 1, self._xds.missing),
            pods=admin.Served(self._pods.served, self._pods.pending),
            certificates=self._certificates.held,
            authority=admin.Authority(self._authority.url, await self._authority.unreachable()),
            problems=[*self._revocation.pending, *self._revocation.warnings],
        )

    def stop(self) -> None:
        """Begin to drain; a second call ends the process at once."""
        if self._stop.is_set():
            log.warning("ended without waiting for connections")
            os._exit(1)
        self._stop.set()

    async def run(self) -> None:
        """Work until told to stop, then drain. Raises OSError when the HTTP ports cannot be had."""
        loop = asyncio.get_running_loop()
        # Few: calls into the core are short, and each thread costs memory.
        loop.set_default_executor(ThreadPoolExecutor(3, "calls"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        servers = await self._endpoints.serve(self._settings.listen)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    # Which pods there are: without it nobody is served.
                    tasks.create_task(self._zds.run()),
                    # What could not be served may be served later, when a port or a namespace is free.
                    tasks.create_task(self._pods.retry_forever()),
                    # Which roots are to be trusted, when they change.
                    tasks.create_task(self._certificates.follow_root()),
                    # Which certificates are no longer to be trusted.
                    tasks.create_task(self._revocation.follow()),
                    # Who is where and who may: without it nothing is known to connect to.
                    tasks.create_task(self._xds.run()),
                ]
                await self._stop.wait()
                for task in running:
                    task.cancel()
            # Endpoints are served until the end, so that the drain can be watched.
            await self._drain()
        finally:
            for server in servers:
                server.close()

    async def _drain(self) -> None:
        deadline = self._settings.drain_deadline
        log.info("draining for at most %g s", deadline)
        cut = await asyncio.to_thread(self._core.drain, deadline)
        log.info("drained; %d connections were cut", cut)


def run(settings: Settings) -> None:
    """Run a tunnel until SIGTERM, SIGINT or POST /quitquitquit. Raises OSError, ValueError."""

    async def main() -> None:
        await Tunnel(settings).run()

    asyncio.run(main())
