"""`warren ca`: the certificate authority, and its root's rotation."""

import asyncio
import socket
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal

import click

from agent import logs
from agent.ca.app import App, Settings
from agent.ca.backing import Backing
from agent.ca.cluster import Cluster
from agent.ca.server import Listen
from agent.ca.standalone import Standalone
from agent.cli.command import Command, option
from agent.cli.revoke import revoke
from agent.cli.rotation import rotate, status
from agent.cli.types import LOG_FORMATS, LOG_LEVELS, PORT, READABLE_FILE, ip_address, ip_port
from agent.cli.types import source as source_type
from agent.errors import SettingsError
from agent.kube.client import Client
from agent.model.kinds import KINDS
from agent.sources.folder import Folder
from agent.sources.kube import Kube
from agent.sources.source import Source

_OBJECTS = ("Pod", "Namespace")


class _Group(click.Group):
    """Without the name of a command, the first one is meant: `warren ca --listen ...` serves."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *self.get_help_option_names(ctx)):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def ca() -> None:
    """Run the certificate authority (serve), exchange the root by which it signs, revoke certificates."""


@ca.command(cls=Command)
@option("--listen", type=ip_port, required=True, help="where tunnels ask for certificates")
@option("--source", type=source_type, required=True, help="where objects come from: kube, or dir:PATH")
@option("--kubeconfig", type=READABLE_FILE, help="kube: [default: in a pod its account, else kubectl's]")
@option("--namespace", default="warren-system", help="kube: of this authority, its Secrets and its Lease")
@option(
    "--node-account",
    multiple=True,
    default=["warren-system/warren-node"],
    help="kube: service account of tunnels",
)
@option("--dir", "directory", envvar="WARREN_DIR", type=click.Path(file_okay=False, path_type=Path),
        help="dir: folder of root.pem and root.key, made at the first start")  # fmt: skip
@option("--tokens", type=READABLE_FILE, help='dir: JSON, {"<bearer token>": "<node name>"}')
@option("--serving-name", multiple=True, help="further DNS name by which tunnels reach this authority")
@option("--trust-domain", default="cluster.local", help="of all identities")
@option("--lifetime", type=click.IntRange(10, 86400), default=86400, help="seconds, of a certificate")
@option("--http-address", type=ip_address, default="127.0.0.1", help="address for metrics and readiness")
@option("--metrics-port", type=PORT, default=15016, help="port for them; 0: none")
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def serve(
    *,
    listen: tuple[IPv4Address | IPv6Address, int],
    source: Path | Literal["kube"],
    serving_name: tuple[str, ...],
    trust_domain: str,
    lifetime: int,
    http_address: str,
    metrics_port: int,
    log_level: str,
    log_format: str,
    **where: Any,
) -> None:
    """Sign certificates for the node's tunnels, until told to stop.

    With --source kube the root is in the Secret istio-ca-secret, or plugged in by the Secret cacerts, and
    tunnels call with tokens of their pods. With --source dir:PATH both are files.
    """
    logs.configure(log_level, log_format)
    longest = timedelta(seconds=lifetime)
    names = [*serving_name, *(_service_names(where["namespace"]) if source == "kube" else [])]
    settings = Settings(Listen(*listen), tuple(names), trust_domain, longest, http_address, metrics_port)
    opened = _cluster(settings, **where) if source == "kube" else _folder(settings, source, **where)
    asyncio.run(_run(settings, *opened))


def _service_names(namespace: str) -> list[str]:
    """Of the Service in front of the replicas, from within the namespace and from elsewhere."""
    return [f"warren-ca.{namespace}.svc", f"warren-ca.{namespace}.svc.cluster.local"]


def _folder(
    settings: Settings, source: Path, *, directory: Path | None, tokens: Path | None, **_: Any
) -> tuple[Source, Backing]:
    missing = [name for name, value in {"--dir": directory, "--tokens": tokens}.items() if value is None]
    if directory is None or tokens is None:
        raise SettingsError("\n".join(f"{name} is missing: --source dir:PATH needs it" for name in missing))
    return Folder(source), Standalone(directory, tokens, settings.trust_domain)


def _cluster(
    settings: Settings, *, kubeconfig: Path | None, namespace: str, node_account: Iterable[str], **_: Any
) -> tuple[Source, Backing]:
    client = Client.load(kubeconfig)
    backing = Cluster(
        client,
        namespace=namespace,
        holder=socket.gethostname(),
        accounts=frozenset(node_account),
        trust_domain=settings.trust_domain,
        longest=settings.longest,
    )
    # Without knowing all pods and namespaces only those that go are taken note of: they end an identity.
    kube = Kube(client, [KINDS[name] for name in _OBJECTS], harmless=lambda _, item: item is None)
    return kube, backing


async def _run(settings: Settings, source: Source, backing: Backing) -> None:
    try:
        await App(settings, backing, source.changes()).run()
    finally:
        source.close()


ca.add_command(rotate)
ca.add_command(revoke)
ca.add_command(status)
