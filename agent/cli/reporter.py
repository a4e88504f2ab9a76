"""`warren reporter`."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import click

from agent import logs, memory
from agent.cli.command import Command, option
from agent.cli.mesh_options import mesh_options, outbound_option, take_mesh
from agent.cli.types import LOG_FORMATS, LOG_LEVELS, READABLE_FILE
from agent.kube.client import Client
from agent.reporting import report


@click.command(cls=Command)
@option("--kubeconfig", type=READABLE_FILE, help="[default: in a pod its account, else kubectl's]")
@option("--namespace", default="warren-system", help="of the Lease warren-status")
@mesh_options
@outbound_option("as the agents have it")
@option("--log-level", type=LOG_LEVELS, default="info", help="the least that is logged")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def reporter(
    *,
    kubeconfig: Path | None,
    namespace: str,
    log_level: str,
    log_format: str,
    **settings: Any,
) -> None:
    """Write into objects' status, or as Events, why they are not in force.

    Of several replicas one writes, the holder of the Lease warren-status.
    """
    logs.configure(log_level, log_format)
    mesh = take_mesh(settings)
    memory.before_loading()
    asyncio.run(report(Client.load(kubeconfig), namespace, socket.gethostname(), mesh))
