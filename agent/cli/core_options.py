"""The options of the processes over the core: `warren tunnel` and `warren gateway`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from agent.cli.command import option
from agent.cli.types import (
    LOG_FORMATS,
    LOG_LEVELS,
    PORT,
    READABLE_FILE,
    https_url,
    ip_address,
    unix_or_https_url,
)
from tunnel.settings import CertificateAuthority, Configuration, Listen, PathNormalization

F = TypeVar("F", bound=Callable[..., Any])
# Half of the CPUs: the applications, whose bytes they are, need the others.
_WORKERS = max(1, len(os.sched_getaffinity(0)) // 2)
_OPTIONS = (
    option("--node", required=True, help="name of this node"),
    option(
        "--xds", type=unix_or_https_url, required=True, help="configuration: unix:PATH or https://HOST:PORT"
    ),
    option(
        "--xds-root", type=READABLE_FILE, help="PEM, vouches for the https server [default: the system's]"
    ),
    option("--ca", type=https_url, required=True, help="certificates: https://HOST:PORT"),
    option("--ca-root", type=READABLE_FILE, required=True, help="PEM, vouches for the authority"),
    option(
        "--ca-token", type=READABLE_FILE, required=True, help="file with our bearer token, read each time"
    ),
    option(
        "--crl",
        type=click.Path(path_type=Path),
        help="certificate revocation lists, PEM or DER, read again when the file changes; no file is no "
        "list, and one that cannot be used at the start lets no peer in [default: nobody is revoked]",
    ),
    option(
        "--dns-server",
        "dns_servers",
        type=ip_address,
        multiple=True,
        help="address to ask, at port 53, for names of ServiceEntries' endpoints [default: /etc/resolv.conf]",
    ),
    option(
        "--workers",
        type=click.IntRange(1, 1024),
        default=_WORKERS,
        help="threads that carry bytes; by default half as many as CPUs",
    ),
    option(
        "--spin",
        type=click.IntRange(0, 10_000),
        default=50,
        help="microseconds to look for work before sleep",
    ),
    option(
        "--access-log", type=click.Choice(["off", "errors", "all"]), default="all", help="connections to log"
    ),
    option(
        "--path-normalization",
        type=click.Choice(get_args(PathNormalization)),
        default="base",
        help="of requests before routes see them, as Istio's meshConfig.pathNormalization",
    ),
    option("--http-address", type=ip_address, default="127.0.0.1", help="for metrics and readiness"),
    option("--admin-port", type=PORT, default=15000, help="configuration and connections, on 127.0.0.1"),
    option("--metrics-port", type=PORT, default=15020, help="Prometheus"),
    option("--ready-port", type=PORT, default=15021, help="readiness"),
    option(
        "--drain-deadline", type=click.FloatRange(0, 3600), default=5.0, help="seconds for connections to end"
    ),
    option("--trust-domain", default="cluster.local", help="of our pods"),
    option("--cluster", default="Kubernetes", help="name of this cluster"),
    option("--log-level", type=LOG_LEVELS, default="info", help="least level to log"),
    option("--log-format", type=LOG_FORMATS, default="text", help="of log lines, the access log's too"),
)


def core_options(command: F) -> F:
    """Give a command these options, after its own."""
    for one in reversed(_OPTIONS):
        command = one(command)
    return command


def core_settings(given: dict[str, Any], *, on_demand: bool = False, gateway: str = "") -> dict[str, Any]:
    """Their values as fields of `tunnel.settings.Settings`."""
    same = (
        *("node", "workers", "access_log", "log_format", "path_normalization"),
        *("drain_deadline", "trust_domain", "cluster", "crl"),
    )
    ports = (given[name] for name in ("http_address", "admin_port", "metrics_port", "ready_port"))
    return {
        **{name: given[name] for name in same},
        "xds": Configuration(given["xds"], given["xds_root"], given["ca_token"], on_demand, gateway),
        "ca": CertificateAuthority(given["ca"], given["ca_root"], given["ca_token"]),
        "spin_us": given["spin"],
        "dns_servers": given["dns_servers"],
        "listen": Listen(*ports),
    }
