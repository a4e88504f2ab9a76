"""What the agent is told by its command line."""

from pathlib import Path
from typing import Literal

from msgspec import Struct

from agent.fetching import Reach
from agent.model.mesh import Mesh
from agent.model.schema.objects import IPAddress
from agent.xds.upstream import Place


class Settings(Struct, frozen=True):
    """What is set.

    source: `kube`, or a folder of manifests; run_dir: for the sockets; cgroup: a cgroup v2 directory, whose
    processes are redirected; bpffs: directory for the pins; metrics_port, dashboard_port: 0 for none;
    kubeconfig: None for what a pod has, or kubectl uses; cni_conf_dir: None where no CNI
    plugin is to be installed; cri_socket: None where no runtime can be asked; daemon_set: NAMESPACE/NAME of
    ours, or empty; kubelet_cgroup: None to look for it; proc: the host's procfs, to be read and written;
    tls_folders: whose files DestinationRules may name; admin_group: id of the group that may read what the
    agent knows, None for root alone.
    jwks_reach, jwks_redirects: how far key sets are fetched from.
    discovery: where the mesh's configuration is asked for, so that the agent reads its own node's pods alone.
    """

    source: Path | Literal["kube"]
    node: str
    run_dir: Path
    cgroup: Path
    bpffs: Path
    xds_address: tuple[IPAddress, int]
    http_address: str
    metrics_port: int
    mesh: Mesh
    kubeconfig: Path | None = None
    cni_conf_dir: Path | None = None
    cni_bin_dir: Path = Path("/opt/cni/bin")
    cri_socket: Path | None = None
    daemon_set: str = ""
    kubelet_cgroup: Path | None = None
    proc: Path = Path("/proc")
    admin_group: int | None = None
    dashboard_port: int = 0
    jwks_reach: Reach = "private"
    jwks_redirects: bool = False
    discovery: Place | None = None
    tls_folders: tuple[Path, ...] = (Path("/etc/certs"), Path("/etc/ssl/certs"))
