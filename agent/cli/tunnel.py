"""`warren tunnel`: a node's tunnel. Imports next to nothing of the agent: a node pays for each megabyte."""

import os
import sys
from pathlib import Path

import click

from agent import logs
from agent.cli.command import Command, option
from agent.cli.types import (
    LOG_FORMATS,
    LOG_LEVELS,
    PORT,
    READABLE_FILE,
    https_url,
    ip_address,
    unix_or_https_url,
)
from tunnel.settings import AccessLog, CertificateAuthority, Configuration, Listen, Settings

# Half of the CPUs: the applications, whose bytes they are, need the others.
_WORKERS = max(1, len(os.sched_getaffinity(0)) // 2)


@click.command(cls=Command)
@option("--node", required=True, help="name of this node")
@option(
    "--zds",
    type=click.Path(path_type=Path),
    required=True,
    help="socket at which the agent tells of its pods",
)
@option("--xds", type=unix_or_https_url, required=True, help="configuration: unix:PATH or https://HOST:PORT")
@option("--xds-root", type=READABLE_FILE, help="PEM, vouches for the https server [default: the system's]")
@option(
    "--on-demand",
    is_flag=True,
    help="hold only the part of the mesh that is met here: less memory, a wait at each first meeting",
)
@option("--ca", type=https_url, required=True, help="certificates: https://HOST:PORT")
@option("--ca-root", type=READABLE_FILE, required=True, help="PEM, vouches for the authority")
@option("--ca-token", type=READABLE_FILE, required=True, help="file with our bearer token, read each time")
@option(
    "--crl",
    type=click.Path(path_type=Path),
    help="certificate revocation lists, PEM or DER, read again when the file changes; no file is no list, "
    "and one that cannot be used at the start lets no peer in [default: nobody is revoked]",
)
@option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=_WORKERS,
    help="threads that carry bytes; by default half as many as CPUs",
)
@option(
    "--spin", type=click.IntRange(0, 10_000), default=50, help="microseconds to look for work before sleep"
)
@option("--access-log", type=click.Choice(["off", "errors", "all"]), default="all", help="connections to log")
@option("--http-address", type=ip_address, default="127.0.0.1", help="for metrics and readiness")
@option("--admin-port", type=PORT, default=15000, help="configuration and connections, on 127.0.0.1")
@option("--metrics-port", type=PORT, default=15020, help="Prometheus")
@option("--ready-port", type=PORT, default=15021, help="readiness")
@option(
    "--drain-deadline", type=click.FloatRange(0, 3600), default=5.0, help="seconds for connections to end"
)
@option("--trust-domain", default="cluster.local", help="of this node's pods")
@option("--cluster", default="Kubernetes", help="name of this cluster")
@option(
    "--bpffs",
    type=click.Path(path_type=Path),
    help="the agent's --bpffs: then an application's connect() waits for what the other end answers, and "
    "fails where that refuses [default: it succeeds at once, and the connection is reset]",
)
@option(
    "--direct",
    type=click.Path(path_type=Path),
    help="the agent's --bpffs: then the kernel carries allowed connections between pods of this node, in "
    "plain text, with both identities known [default: all go through the tunnel]",
)
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines, the access log's too")
def tunnel(
    *,
    node: str,
    zds: Path,
    xds: str,
    xds_root: Path | None,
    on_demand: bool,
    ca: str,
    ca_root: Path,
    ca_token: Path,
    crl: Path | None,
    workers: int,
    spin: int,
    access_log: AccessLog,
    http_address: str,
    admin_port: int,
    metrics_port: int,
    ready_port: int,
    drain_deadline: float,
    trust_domain: str,
    cluster: str,
    bpffs: Path | None,
    direct: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run a node's tunnel: the bytes, inside mutual TLS."""
    logs.configure(log_level, log_format)
    settings = Settings(
        node=node,
        zds=zds,
        xds=Configuration(xds, xds_root, ca_token, on_demand),
        ca=CertificateAuthority(ca, ca_root, ca_token),
        workers=workers,
        spin_us=spin,
        access_log=access_log,
        log_format=log_format,
        listen=Listen(http_address, admin_port, metrics_port, ready_port),
        drain_deadline=drain_deadline,
        trust_domain=trust_domain,
        cluster=cluster,
        direct=direct,
        bpffs=bpffs,
        crl=crl,
    )
    # asyncio can do without OpenSSL; gRPC and the core bring their own TLS. 4 MB less.
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    from tunnel.app import run  # noqa: PLC0415

    run(settings)
