"""`warren discovery`."""

import os
from typing import Any

import click

from agent.cli.command import Command, option
from agent.cli.mesh_options import key_set_options, mesh_options, outbound_option, take_mesh
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
@mesh_options
@outbound_option()
@key_set_options
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def discovery(
    *,
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

    logs.configure(log_level, log_format)
    memory.before_loading()
    mesh = take_mesh(own)

    async def run() -> None:
        await Discovery(Settings(mesh=mesh, accounts=frozenset(accounts), **own)).run()

    asyncio.run(run())
