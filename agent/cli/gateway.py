"""`warren gateway`: a door of the mesh."""

from typing import Any

import click

from agent.cli.command import Command, option
from agent.cli.core_options import core_options, core_settings
from agent.cli.core_process import become
from tunnel.settings import GatewaySettings, Info


@click.command(cls=Command)
@option("--pod", required=True, help="name of the pod that this is")
@option("--namespace", required=True, help="its namespace")
@option("--service-account", default="default", help="its service account, of which the identity is made")
@core_options
def gateway(*, pod: str, namespace: str, service_account: str, **given: Any) -> None:
    """Run a gateway: listen where the Gateways that select this pod say, and lead into the mesh.

    The pod has the label warren.dev/gateway=true. Kinds of Istio (Gateway, VirtualService) and of the Gateway
    API are read. What goes into the mesh goes through HBONE, with the identity of the pod's service account.
    """
    common = core_settings(given, gateway=f"{namespace}/{pod}")
    settings = GatewaySettings(**common, pod=Info(pod, namespace, service_account))
    become(settings, given["log_level"], given["log_format"])
