"""`warren gateway-agent`."""

import os
from typing import Any

import click

from agent.cli.command import Command, option
from agent.cli.mesh_options import key_set_options, mesh_options, take_mesh
from agent.cli.types import LOG_FORMATS, LOG_LEVELS, READABLE_FILE, SOCKET, source


@click.command(cls=Command)
@option("--source", type=source, required=True, help="where objects come from: kube, or dir:PATH")
@option("--kubeconfig", type=READABLE_FILE, help="kube: [default: in a pod its account, else kubectl's]")
@option("--socket", type=SOCKET, required=True, help="at which the gateway asks; its --xds is unix:SOCKET")
@option("--namespace", required=True, help="of the gateway's pod")
@option("--pod", required=True, help="name of the gateway's pod")
@mesh_options
@key_set_options
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def gateway_agent(
    *,
    log_level: str,
    log_format: str,
    **own: Any,
) -> None:
    """Serve configuration to the gateway of this pod, beside it.

    Reads the Secrets of the gateway's namespace that its Gateways name, and tells them nobody else.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it raises its errors as well
    import asyncio  # noqa: PLC0415  (a bad setting should be told before a second of imports)

    from agent import logs, memory  # noqa: PLC0415
    from agent.gateway import GatewayAgent, Settings  # noqa: PLC0415

    logs.configure(log_level, log_format)
    memory.before_loading()
    mesh = take_mesh(own)

    async def run() -> None:
        await GatewayAgent(Settings(mesh=mesh, **own)).run()

    asyncio.run(run())
