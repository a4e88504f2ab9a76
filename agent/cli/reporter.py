"""`warren reporter`."""

import asyncio
import socket
from pathlib import Path
from typing import Literal

import click

from agent import logs, memory
from agent.cli.command import Command, option
from agent.cli.types import LOG_FORMATS, LOG_LEVELS, READABLE_FILE
from agent.kube.client import Client
from agent.model.mesh import Mesh
from agent.reporting import report
from agent.sources.mesh_config import read


@click.command(cls=Command)
@option("--kubeconfig", type=READABLE_FILE, help="[default: in a pod its account, else kubectl's]")
@option("--namespace", default="warren-system", help="of the Lease warren-status")
@option("--trust-domain", default="cluster.local", help="of all identities")
@option("--cluster", default="Kubernetes", help="id of this cluster")
@option("--revision", default="default", help="objects labelled istio.io/rev for another one are ignored")
@option("--network", default="", help="id of the network that pods are in")
@option("--mesh-config", type=READABLE_FILE, help="Istio's MeshConfig: providers, and what is their default")
@option(
    "--outbound-traffic-policy",
    type=click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"]),
    default="ALLOW_ANY",
    help="as the agents have it",
)
@option("--log-level", type=LOG_LEVELS, default="info", help="the least that is logged")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def reporter(
    *,
    kubeconfig: Path | None,
    namespace: str,
    trust_domain: str,
    cluster: str,
    network: str,
    mesh_config: Path | None,
    revision: str,
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"],
    log_level: str,
    log_format: str,
) -> None:
    """Write into objects' status, or as Events, why they are not in force.

    Of several replicas one writes, the holder of the Lease warren-status.
    """
    logs.configure(log_level, log_format)
    mesh = Mesh(
        cluster,
        trust_domain,
        network,
        outbound_traffic_policy=outbound_traffic_policy,
        revision=revision,
        config=read(mesh_config),
    )
    memory.before_loading()
    asyncio.run(report(Client.load(kubeconfig), namespace, socket.gethostname(), mesh))
