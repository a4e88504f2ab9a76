"""The mesh's configuration for the agents of all nodes: a few processes read it, instead of each node.

Each replica is whole. Resources have the same versions at every one, so that an agent whose stream ends goes
on at any other. It serves nothing before all critical kinds are known, and only who shows a token of a
tunnel's pod.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import grpc
from msgspec import Struct

from agent import memory, web
from agent.ahead import Ahead
from agent.ca.authorizer import Authorizer
from agent.ca.errors import Refusal
from agent.ca.placement import Placement
from agent.ca.reviews import Reviews
from agent.ca.tokens import TokenFile, Tokens
from agent.errors import SettingsError, describe
from agent.fetching import Reach
from agent.kube.client import Client
from agent.lifetime import told_to_end, until_first
from agent.model.mesh import Mesh
from agent.model.model import Model
from agent.model.schema.objects import IPAddress
from agent.model.unread import Unread
from agent.sources.key_sets import KeySets
from agent.sources.opening import open_source
from agent.sources.source import Changes
from agent.xds.server import XdsServer
from protocols.web import PROMETHEUS, Request, Response

log = logging.getLogger(__name__)

Pair = tuple[bytes, bytes]


class Settings(Struct, frozen=True):
    """source: `kube`, or a folder of manifests, with which `tokens` is a file of `{"<token>": "<node>"}`.

    certificate, key: PEM files, read again when they change. accounts: whose tokens are taken, NAMESPACE/NAME
    """

    source: Path | Literal["kube"]
    listen: tuple[IPAddress, int]
    certificate: Path
    key: Path
    mesh: Mesh
    http_address: str = "127.0.0.1"
    metrics_port: int = 15017
    kubeconfig: Path | None = None
    accounts: frozenset[str] = frozenset({"warren-system/warren-node"})
    tokens: Path | None = None
    jwks_reach: Reach = "private"
    jwks_redirects: bool = False


class Discovery:
    """One replica."""

    def __init__(self, settings: Settings) -> None:
        """Opens what may be refused. Raises WarrenError."""
        self._settings = settings
        self._model, self._ahead = Model(settings.mesh), Ahead(settings.mesh)
        self._first = _pair(settings.certificate, settings.key)
        self._source, _, client = open_source(
            settings.source, settings.kubeconfig, None, listed=self._ahead.begin
        )
        self._placement = Placement()
        self._authorizer = Authorizer(self._tokens(client), self._placement, settings.mesh.trust_domain)
        self._keys = KeySets(settings.jwks_reach, redirects=settings.jwks_redirects)
        self._xds = XdsServer(unknown_key=self._keys.renew)
        self.serving = False  # whether all is known, and told

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises WarrenError."""
        await self.serve(told_to_end())

    async def serve(self, ended: asyncio.Event) -> None:
        """Until that. Raises WarrenError."""
        pages = {("GET", "/healthz/ready"): self._readiness, ("GET", "/metrics"): self._metrics}
        settings = self._settings
        server = settings.metrics_port and await web.serve(
            settings.http_address, settings.metrics_port, pages
        )
        try:
            await until_first(ended.wait(), self._follow())
        finally:
            self._source.close()
            await self._xds.stop()
            if server:
                server.close()

    async def _follow(self) -> None:
        """The source, from the first whole state on: before that nobody is listened to."""
        async for changes in self._keys.follow(self._source.changes()):
            await self._take(changes)
            if not self.serving:
                await asyncio.to_thread(memory.after_loading)
                credentials = grpc.dynamic_ssl_server_credentials(
                    grpc.ssl_server_certificate_configuration([self._first]), self._renewed()
                )
                await self._xds.start_remote(self._settings.listen, credentials, self._admit)
                self.serving = True

    async def _take(self, changes: Changes) -> None:
        since = time.monotonic()
        self._placement.apply(changes)
        self._model, delta = await self._ahead.apply(self._model, changes)
        rejected = (one.key for one in self._source.rejected)
        unread = Unread.of(self._settings.mesh, self._model.store.objects, rejected)
        self._xds.update(delta, self._model.version, unread, since)

    async def _admit(self, authorization: str | None, peer: str) -> str:
        try:
            caller = await self._authorizer.caller(authorization, peer.rpartition(":")[0])
        except Refusal as refusal:
            log.warning("refused %s: %s", peer, refusal)
            return str(refusal)
        log.debug("%s is %s", peer, caller)
        return ""

    def _tokens(self, client: Client | None) -> Tokens:
        settings = self._settings
        if client:
            return Reviews(client, self._placement, settings.accounts, lambda: datetime.now(UTC))
        if settings.tokens is None:
            raise SettingsError("--tokens is missing: --source dir:PATH needs it")
        return TokenFile(settings.tokens)

    def _renewed(self) -> Callable[[], Any]:
        """Asked by gRPC at each handshake; None: what it has will do."""
        in_use = self._first

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal in_use
            try:
                now = _pair(self._settings.certificate, self._settings.key)
            except SettingsError as error:
                log.error("the serving certificate stays: %s", error)
                return None
            if now == in_use:
                return None
            in_use = now
            return grpc.ssl_server_certificate_configuration([now])

        return fetch

    def _unready(self) -> Iterable[str]:
        yield from (f"{kind}: {why}" for kind, why in self._source.health.unsynced.items())
        if not self.serving:
            yield "starting: objects are being read"

    async def _readiness(self, _: Request) -> Response:
        """Where it is not ready its Service leads to other replicas; streams that are open go on."""
        if reasons := [*self._unready()]:
            text = "".join(f"not ready: {one}\n" for one in reasons)
            return Response(text, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response("ready\n")

    async def _metrics(self, _: Request) -> Response:
        figures = {
            "warren_discovery_streams": len({one.client for one in self._xds.subscribed()}),
            "warren_discovery_resources": sum(self._xds.cache.count().values()),
            "warren_discovery_source_age_seconds": self._source.health.age,
        }
        lines = (f"# TYPE {name} gauge\n{name} {value:g}\n" for name, value in figures.items())
        return Response("".join(lines), PROMETHEUS)


def _pair(certificate: Path, key: Path) -> Pair:
    """Key and chain, PEM, as gRPC wants them. Raises SettingsError."""
    try:
        return key.read_bytes(), certificate.read_bytes()
    except OSError as error:
        raise SettingsError(f"--certificate, --key: {describe(error)}") from error
