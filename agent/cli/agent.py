"""`warren agent`."""

import os
from pathlib import Path
from typing import Any

import click

from agent.cli.cni import BIN_DIR
from agent.cli.command import Command, option
from agent.cli.mesh_options import key_set_options, mesh_options, outbound_option, take_mesh
from agent.cli.types import (
    FOLDER,
    LOG_FORMATS,
    LOG_LEVELS,
    PORT,
    READABLE_FILE,
    SOCKET,
    daemon_set,
    group,
    https_url,
    ip_address,
    ip_port,
    source,
)
from agent.errors import SettingsError

_PRESENT = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(cls=Command)
@option("--source", type=source, required=True, help="where objects come from: kube, or dir:PATH")
@option("--kubeconfig", type=READABLE_FILE, help="kube: [default: in a pod its account, else kubectl's]")
@option("--node", required=True, help="name of this node, as in spec.nodeName of its pods")
@option("--run-dir", type=FOLDER, required=True, help="folder for the sockets ztunnel.sock and xds.sock")
@option("--cgroup", type=_PRESENT, required=True, help="cgroup v2 directory whose processes are redirected")
@option("--bpffs", type=FOLDER, required=True, help="directory in a bpffs for what outlives the agent")
@option("--xds-address", type=ip_port, default="127.0.0.1:15012", help="TLS address for other tunnels' xDS")
@option(
    "--cni-conf-dir", type=FOLDER, help="where to install the CNI plugin: like /etc/cni/net.d; none: nowhere"
)
@option("--cni-bin-dir", type=FOLDER, default=BIN_DIR, help="folder of the runtime's plugins")
@option(
    "--cri-socket",
    type=SOCKET,
    help="of the container runtime, to find pods that run: like /run/containerd/containerd.sock",
)
@option(
    "--daemon-set",
    type=daemon_set,
    default="",
    help="NAMESPACE/NAME of the agents': their pods never wait for one",
)
@option("--kubelet-cgroup", type=FOLDER, help="where its probes come from [default: looked for, with kube]")
@option(
    "--tls-folder",
    "tls_folders",
    type=FOLDER,
    multiple=True,
    default=("/etc/certs", "/etc/ssl/certs"),
    help="whose files DestinationRules may name (caCertificates, clientCertificate, privateKey, caCrl)",
)
@option(
    "--discovery",
    type=https_url,
    help="URL of `warren discovery`: read our own pods alone",
)
@option("--discovery-root", type=READABLE_FILE, help="PEM, by which its certificate is verified")
@option("--discovery-token", type=SOCKET, help="file of the token that it is shown, read each time")
@option("--proc", type=_PRESENT, default="/proc", help="the host's procfs; a container's own is read-only")
@option("--admin-group", type=group, help="may read what the agent knows [default: root alone]")
@option("--http-address", type=ip_address, default="127.0.0.1", help="address for metrics and readiness")
@option("--metrics-port", type=PORT, default=15014, help="port for them; 0: none")
@option("--dashboard-port", type=PORT, default=15018, help="loopback port for the live map; 0: none")
@mesh_options
@outbound_option()
@key_set_options
@option("--standby", is_flag=True, help="wait for an agent that runs here, and be ready meanwhile [upgrades]")
@option("--log-level", type=LOG_LEVELS, default="info", help="least level to log")
@option("--log-format", type=LOG_FORMATS, default="text", help="of log lines")
def agent(
    *,
    log_level: str,
    log_format: str,
    standby: bool,
    discovery: str | None,
    discovery_root: Path | None,
    discovery_token: Path | None,
    **settings: Any,
) -> None:
    """Run a node's agent: redirection, pods and configuration for the tunnel.

    Pods stay captured when it ends, with every connection; it takes them over when it is started again.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it raises its errors as well
    import asyncio  # noqa: PLC0415  (a bad setting should be told before a second of imports)

    from agent import logs, memory  # noqa: PLC0415
    from agent.app import Agent  # noqa: PLC0415
    from agent.settings import Settings  # noqa: PLC0415
    from agent.standby import stand_by  # noqa: PLC0415
    from agent.xds.upstream import Place  # noqa: PLC0415

    logs.configure(log_level, log_format)
    mesh = take_mesh(settings)
    memory.before_loading()
    place = None
    if discovery:
        if discovery_root is None or discovery_token is None:
            raise SettingsError("--discovery needs --discovery-root and --discovery-token")
        place = Place(discovery.removeprefix("https://"), discovery_root, discovery_token)

    async def run() -> None:
        if standby:
            await stand_by(settings["run_dir"], settings["http_address"], settings["metrics_port"])
        await Agent(Settings(mesh=mesh, discovery=place, **settings)).run()

    asyncio.run(run())
