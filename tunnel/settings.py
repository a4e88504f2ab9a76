"""What a tunnel is told at its start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AccessLog = Literal["off", "errors", "all"]
PathNormalization = Literal["none", "base", "merge-slashes", "decode-and-merge-slashes"]


# Who may ask here may also end the tunnel: nobody beyond this host, or this pod of a cluster.
ADMIN_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Listen:
    """Where the HTTP endpoints are: `address` is of metrics and readiness; port 0 takes a free one."""

    address: str = "127.0.0.1"
    admin_port: int = 15000
    metrics_port: int = 15020
    ready_port: int = 15021


@dataclass(frozen=True)
class Configuration:
    """Where configuration comes from: `url` is unix:PATH or https://HOST:PORT.

    root: PEM file that vouches for the server; None: the system's roots. token: file with a bearer token,
    sent over https only.

    on_demand: of the workloads and services only those are held that are met here. Not by default, as with
    Istio: who holds everything (1 MB for 1,000 pods) keeps no connection waiting, and knows who is new while
    the agent is away. It pays where nodes are small and meet little of a mesh of hundreds of thousands.

    gateway: `namespace/pod` of the gateway whose listeners are asked for; empty: this is none.
    """

    url: str
    root: Path | None = None
    token: Path | None = None
    on_demand: bool = False
    gateway: str = ""


@dataclass(frozen=True)
class CertificateAuthority:
    """Where certificates come from: https://HOST:PORT, the root that vouches for it, our bearer token."""

    url: str
    root: Path
    token: Path


@dataclass(frozen=True)
class Info:
    """Who a pod is."""

    name: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """node: our name in the mesh's objects. spin_us: microseconds. drain_deadline: seconds.

    path_normalization: Istio's meshConfig.pathNormalization, of requests on ports that have routes.
    crl: file of certificate revocation lists; None: nobody is revoked.
    dns_servers: addresses that are asked for the names of endpoints; none: those of /etc/resolv.conf.
    """

    node: str
    xds: Configuration
    ca: CertificateAuthority
    workers: int
    spin_us: int = 50
    access_log: AccessLog = "all"
    log_format: str = "text"  # or json
    listen: Listen = Listen()
    drain_deadline: float = 5.0
    trust_domain: str = "cluster.local"
    cluster: str = "Kubernetes"
    crl: Path | None = None
    dns_servers: tuple[str, ...] = ()
    path_normalization: PathNormalization = "base"

    @property
    def log(self) -> str:
        """As the core is told of it."""
        return self.access_log + (",json" if self.log_format == "json" else "")


@dataclass(frozen=True, kw_only=True)
class TunnelSettings(Settings):
    """zds: socket of the agent, which tells of the node's pods.

    direct: where the agent pins its maps; None where connections between pods of one node have to go through
    the tunnel like all others.
    bpffs: likewise; None where every connect() of an application succeeds, whatever the other end answers.
    dns_capture: whether pods' questions for names that only the mesh knows are answered; needs bpffs.
    keep_listeners: whether generations follow each other under a keeper, whose files are beside zds.
    drain_age: seconds for which connections may go on in a generation that another has followed.
    cgroup: where generations are that outlast their container, in cgroup v2; None: where they are started.
    """

    zds: Path
    direct: Path | None = None
    bpffs: Path | None = None
    dns_capture: bool = True
    keep_listeners: bool = False
    drain_age: float = 86400.0
    cgroup: Path | None = None


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(Settings):
    """pod: who this process is."""

    pod: Info
