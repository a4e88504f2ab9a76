"""The authority's process: what runs in it, and how it ends."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from agent import web
from agent.ca import server
from agent.ca.authority import DAY, Authority
from agent.ca.authorizer import Authorizer
from agent.ca.backing import Backing
from agent.ca.errors import Reason, Refusal
from agent.ca.metrics import Figures
from agent.ca.placement import Change
from agent.ca.service import CertificateService
from agent.lifetime import told_to_end
from protocols.web import PROMETHEUS, Request, Response

log = logging.getLogger("warren.ca")

_GRACE = 2.0  # seconds for answers that are under way


@dataclass(frozen=True)
class Settings:
    """names: DNS names by which tunnels reach us. longest: lifetime of certificates.

    http_address, metrics_port: for metrics and readiness; port 0: none.
    """

    listen: server.Listen
    names: tuple[str, ...] = ()
    trust_domain: str = "cluster.local"
    longest: timedelta = DAY
    http_address: str = "127.0.0.1"
    metrics_port: int = 15016


class App:
    """Everything in the process, made once and connected here."""

    def __init__(
        self, settings: Settings, backing: Backing, changes: AsyncIterator[Iterable[Change]]
    ) -> None:
        """changes: of the mesh's objects; first all that there are."""
        self._settings = settings
        self._backing = backing
        self._changes = changes
        self._figures = Figures()
        self._authority = Authority(backing.signer, settings.longest, backing.now)
        authorizer = Authorizer(backing.tokens, backing.placement, settings.trust_domain)
        self._service = CertificateService(self._authority, authorizer, self._figures)
        self._serving = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises WarrenError."""
        stop = told_to_end()
        routes = {("GET", "/metrics"): self._metrics, ("GET", "/healthz/ready"): self._readiness}
        settings = self._settings
        pages_server = settings.metrics_port and await web.serve(
            settings.http_address, settings.metrics_port, routes
        )
        working, stopping = asyncio.create_task(self._work()), asyncio.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self._serving = False  # whoever asks is sent to another replica
        working.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await working
        finally:
            if pages_server:
                pages_server.close()

    async def _work(self) -> None:
        await self._backing.open()
        # Before anyone can ask: what is not known is refused.
        self._backing.placement.apply(await anext(self._changes))
        listen = self._settings.listen
        serving, port = await server.start(self._authority, self._service, listen, self._settings.names)
        log.info("signing for %s on %s", self._settings.trust_domain, listen._replace(port=port))
        self._serving = True
        try:
            # Pods come and go, and with them what a node may ask for.
            async with asyncio.TaskGroup() as tasks:  # it waits for all, also when told to stop
                tasks.create_task(self._follow())
                tasks.create_task(self._backing.run())
        finally:
            await serving.stop(_GRACE)

    async def _follow(self) -> None:
        async for batch in self._changes:
            self._backing.placement.apply(batch)

    async def _readiness(self, _: Request) -> Response:
        waits = "" if self._serving else "the pods of the cluster"
        try:
            self._backing.signer()
        except Refusal as refusal:
            waits = str(refusal) if refusal.reason is Reason.CLOCK else "the root"
        if waits:
            return Response(f"waiting for {waits}\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response("ready\n")

    async def _metrics(self, _: Request) -> Response:
        return Response(self._figures.exposition(self._backing), PROMETHEUS)
