"""`warren discovery`."""

import os
from pathlib import Path
from typing import Any, Literal

import click

from agent.cli.command import Command, option
from agent.cli.types import LOG_FORMATS, LOG_LEVELS, PORT, READABLE_FILE, ip_address, ip_port, source


@click.command(cls=Command)
@option("--source", type=source, required=True, help="where objects come from: kube, or dir:PATH")
@option("--kubeconfig", type=READABLE_FILE, help="kube: [default: in a pod its account, else kubectl's]")
@option("--listen", type=ip_port, required=True, help="where agents ask, over TLS")
@option("--certificate", type=READABLE_FILE, required=True, help="PEM chain that is served with")
@option("--key", type=READABLE_FILE, required=True, help="its key, PEM")
@option(
    "--node-account",
    "accounts",
    multiple=True,
    default=["warren-system/warren-node"],
    help="kube: service account of the agents",
)
@option("--tokens", type=READABLE_FILE, help='dir: JSON, {"<bearer token>": "<node name>"}')
@option("--http-address", type=ip_address, default="127.0.0.1", help="address for metrics and readiness")
@option("--metrics-port", type=PORT, default=15017, help="port for them; 0: none")
@option("--trust-domain", default="cluster.local", help="of all identities")
@option("--cluster", default="Kubernetes", help="id of this cluster")
@option("--revision", default="default", help="objects labelled istio.io/rev for another one are ignored")
@option("--network", default="", help="id of the network that pods are in")
@option("--mesh-config", type=READABLE_FILE, help="Istio's MeshConfig: providers, and what is their default")
@option(
    "--outbound-traffic-policy",
    type=click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"]),
    default="ALLOW_ANY",
    help="where no Sidecar says it: whether what the mesh does not know may be connected to",
)
@option(
    "--jwks-reach",
    type=click.Choice(["public", "private", "any"]),
    default="private",
    help="where key sets (jwksUri) may be: at public addresses, private ones, too, or loopback, too (any)",
)
@option("--jwks-redirects", is_flag=True, help="follow redirects when key sets are fetched")
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def discovery(
    *,
    trust_domain: str,
    cluster: str,
    revision: str,
    network: str,
    mesh_config: Path | None,
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"],
    accounts: tuple[str, ...],
    log_level: str,
    log_format: str,
    **own: Any,
) -> None:
    """Serve the mesh's configuration to the agents of all nodes (`warren agent --discovery`).

    Agents then watch their own nodes' pods alone. Run two or more: each is whole, agents go on at any.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it raises its errors as well
    import asyncio  # noqa: PLC0415  (a bad setting should be told before a second of imports)

    from agent import logs, memory  # noqa: PLC0415
    from agent.discovery import Discovery, Settings  # noqa: PLC0415
    from agent.model.mesh import Mesh  # noqa: PLC0415
    from agent.sources.mesh_config import read  # noqa: PLC0415

    logs.configure(log_level, log_format)
    memory.before_loading()
    mesh = Mesh(
        cluster,
        trust_domain,
        network,
        outbound_traffic_policy=outbound_traffic_policy,
        revision=revision,
        config=read(mesh_config),
    )

    async def run() -> None:
        await Discovery(Settings(mesh=mesh, accounts=frozenset(accounts), **own)).run()

    asyncio.run(run())
