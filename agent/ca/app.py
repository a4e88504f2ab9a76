"""The authority's process: what runs in it, and how it ends."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from agent.ca import server
from agent.ca.authority import DAY, Authority
from agent.ca.authorizer import Authorizer
from agent.ca.errors import AuthorityError
from agent.ca.placement import Change, Placement
from agent.ca.root import Root
from agent.ca.service import CertificateService
from agent.ca.tokens import Tokens

log = logging.getLogger("warren.ca")

_GRACE = 2.0  # seconds for answers that are under way


@dataclass(frozen=True)
class Settings:
    """directory: of root.pem and root.key. longest: lifetime of certificates.

    metrics_port: on 127.0.0.1; 0: none.
    """

    listen: server.Listen
    directory: Path
    tokens: Path
    trust_domain: str = "cluster.local"
    longest: timedelta = DAY
    metrics_port: int = 15016


async def run(settings: Settings, changes: AsyncIterator[Iterable[Change]]) -> None:
    """Serve until SIGTERM or SIGINT.

    changes: of the mesh's objects; first all that there are. Raises AuthorityError.
    """
    registry, placement = CollectorRegistry(), Placement()
    root = Root.open(settings.directory, settings.trust_domain)
    _report(root, registry, settings.metrics_port)
    authorizer = Authorizer(Tokens(settings.tokens), placement, settings.trust_domain)
    authority = Authority(root, settings.longest)
    service = CertificateService(authority, authorizer, registry)

    placement.apply(await anext(changes))  # before anyone can ask: what is not known is refused
    serving, port = await server.start(authority, service, settings.listen)
    log.info("signing for %s on %s", settings.trust_domain, settings.listen._replace(port=port))

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        # Pods come and go, and with them what a node may ask for.
        following = tasks.create_task(_follow(changes, placement))
        await stop.wait()
        following.cancel()
        await serving.stop(_GRACE)


async def _follow(changes: AsyncIterator[Iterable[Change]], placement: Placement) -> None:
    async for batch in changes:
        placement.apply(batch)


def _report(root: Root, registry: CollectorRegistry, port: int) -> None:
    expiry = Gauge(
        "citadel_server_root_cert_expiry_timestamp", "End of the root, Unix time.", registry=registry
    )
    expiry.set(root.certificate.not_valid_after_utc.timestamp())
    if port:
        try:
            start_http_server(port, "127.0.0.1", registry)
        except OSError as error:
            raise AuthorityError(
                f"cannot listen on 127.0.0.1:{port} for metrics: {error.strerror}"
            ) from error
