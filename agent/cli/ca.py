"""`warren ca`: the certificate authority."""

import asyncio
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import click

from agent.ca.app import Settings, run
from agent.ca.server import Listen
from agent.cli.command import Command, option
from agent.cli.types import LOG_LEVELS, PORT, READABLE_FILE, ip_port, log_to_stderr, source_folder
from agent.sources.folder import Folder


@click.command(cls=Command)
@option("--listen", type=ip_port, required=True, help="where tunnels ask for certificates")
@option(
    "--dir",
    "directory",
    envvar="WARREN_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="of root.pem and root.key, made at the first start",
)
@option("--tokens", type=READABLE_FILE, required=True, help='JSON: {"<bearer token>": "<node name>"}')
@option("--source", type=source_folder, required=True, help="dir:PATH, the mesh's objects")
@option("--trust-domain", default="cluster.local", help="of all identities")
@option("--lifetime", type=click.IntRange(10, 86400), default=86400, help="seconds, of a certificate")
@option("--metrics-port", type=PORT, default=15016, help="on 127.0.0.1; 0: no metrics")
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
def ca(
    *,
    listen: tuple[IPv4Address | IPv6Address, int],
    directory: Path,
    tokens: Path,
    source: Path,
    trust_domain: str,
    lifetime: int,
    metrics_port: int,
    log_level: str,
) -> None:
    """Run the certificate authority."""
    log_to_stderr(log_level)
    settings = Settings(
        listen=Listen(*listen),
        directory=directory,
        tokens=tokens,
        trust_domain=trust_domain,
        longest=timedelta(seconds=lifetime),
        metrics_port=metrics_port,
    )
    asyncio.run(_run(settings, source))


async def _run(settings: Settings, source: Path) -> None:
    folder = Folder(source)
    try:
        await run(settings, folder.changes())
    finally:
        folder.close()
