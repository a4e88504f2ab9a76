"""What the processes over the core have in common: how they run, tell of themselves, and end."""

import asyncio
import logging
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from protocols.report import Authority, Generation, Link, Report, Served
from tunnel import expiry
from tunnel._core import Core, __version__
from tunnel.certificates import AuthorityClient, Certificates
from tunnel.counters import Counters
from tunnel.endpoints import Endpoints
from tunnel.exporter import Exporter
from tunnel.names import Names
from tunnel.revocation import RevocationLists
from tunnel.settings import Settings
from tunnel.xds import XdsClient

log = logging.getLogger("warren.tunnel")

_FLUSH_DEADLINE = 2.0  # seconds for what collectors have not taken yet


class Process(ABC):
    """Everything in a process, made once and connected here."""

    def __init__(self, settings: Settings, core: Core) -> None:
        self._settings, self._core = settings, core
        self._stop = asyncio.Event()
        self._told_to_stop = False  # by somebody else: an end of our own is not to be cut short
        self._servers: list[asyncio.Server] = []
        self._counters = counters = Counters()
        self._authority = authority = AuthorityClient(core, settings.ca, settings.cluster)
        self._certificates = Certificates(core, authority, counters)
        self._revocation = RevocationLists(core, settings.crl, counters, self._certificates.renew)
        self._xds = XdsClient(core, settings.xds, settings.node, settings.cluster, counters)
        self._names = Names(core, settings.dns_servers, counters)
        self._xds.changed = self._names.changed
        self._exporter = Exporter(core, counters)
        self._endpoints = Endpoints(
            core,
            counters,
            self._xds,
            pending=self.pending,
            warnings=self.warnings,
            report=self.report,
            quit=self.stop,
            generations=lambda: self.generations,
            retired=self.retired,
        )

    @property
    @abstractmethod
    def _pods(self) -> Served:
        """Those that are served, and those that are not yet."""

    @property
    @abstractmethod
    def _knows_pods(self) -> bool:
        """Whether it has been told of all pods."""

    def _tasks(self) -> Iterator[Coroutine[Any, Any, Any]]:
        """What runs as long as the process does."""
        # Which roots are to be trusted, when they change.
        yield self._certificates.follow_root()
        # Which certificates are no longer to be trusted.
        yield self._revocation.follow()
        # Where endpoints are that are known by a name.
        yield self._names.run()
        # What was seen, for those who collect it.
        yield self._exporter.run()
        # What nobody will ask for again, where nobody asks for metrics.
        yield expiry.run(self._core)
        # Who is where and who may: without it nothing is known to connect to.
        yield self._xds.run()

    @property
    def generations(self) -> list[Generation]:
        """All that carry connections of this node, where they follow each other."""
        return []

    def retired(self) -> Mapping[int, str]:
        """What those have counted that serve no more."""
        return {}

    def pending(self) -> list[str]:
        """What is missing before the process does its whole job."""
        if self._stop.is_set():
            return ["the end of the drain"]
        waits = [f"configuration ({name})" for name in self._xds.missing]
        waits += [] if self._knows_pods else ["pods (agent)"]
        waits += [f"pod {name}" for name in self._pods.pending]
        waits += [f"certificate of {identity}" for identity in self._certificates.pending]
        waits += self._revocation.pending
        return waits

    def warnings(self) -> list[str]:
        """What is not as it should be, although the process does its job."""
        return [*self._revocation.warnings, *self._names.problems]

    async def report(self) -> Report:
        """For `warren check`: every seam of ours, and what is wrong at it."""
        return Report(
            version=__version__,
            draining=self._stop.is_set(),
            agent=Link(self._knows_pods, self._counters.xds_connected.get() == 1, self._xds.missing),
            pods=self._pods,
            certificates=self._certificates.held,
            authority=Authority(self._authority.url, await self._authority.unreachable()),
            generations=self.generations,
            problems=[*self._revocation.pending, *self.warnings()],
        )

    def stop(self) -> None:
        """Begin to drain; a second call ends the process at once."""
        if self._told_to_stop:
            log.warning("ended without waiting for connections")
            os._exit(1)
        self._told_to_stop = True
        self._stop.set()

    async def run(self) -> None:
        """Work until told to stop, then drain. Raises OSError when the HTTP ports cannot be had."""
        loop = asyncio.get_running_loop()
        # Few: calls into the core are short, and each thread costs memory.
        loop.set_default_executor(ThreadPoolExecutor(3, "calls"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self._begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(one) for one in self._tasks()]
                await self._stop.wait()
                for task in running:
                    task.cancel()
            # Endpoints are served until the end, so that the drain can be watched.
            await self._drain()
        finally:
            await self._end()

    async def _begin(self) -> None:
        """Answer at the HTTP ports. Raises OSError."""
        self._servers = await self._endpoints.serve(self._settings.listen)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()

    async def _drain(self) -> None:
        deadline = self._settings.drain_deadline
        log.info("draining for at most %g s", deadline)
        cut = await asyncio.to_thread(self._core.drain, deadline)
        log.info("drained; %d connections were cut", cut)
        await self._exporter.flush(_FLUSH_DEADLINE)
