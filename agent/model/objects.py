"""What we read of the Kubernetes objects: frozen, decoded once, everything else left behind.

Field names are Kubernetes' own in snake case. Defaults are those that the API server would have filled in, so
that a plain manifest means here what it means on a cluster.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Struct

IPAddress = IPv4Address | IPv6Address
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
NoneOrName = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Protocol = Literal["TCP", "UDP", "SCTP"]
Labels = Mapping[str, str]


class Key(NamedTuple):
    """Which object: `namespace` is empty for what lies in none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def _json_name(field: str) -> str:
    head, *rest = field.split("_")
    return head + "".join(word.title() for word in rest).replace("Ip", "IP")


class _Part(Struct, frozen=True, rename=_json_name):
    """A piece of an object."""


class Owner(_Part, frozen=True):
    kind: str
    name: str
    controller: bool = False


class Metadata(_Part, frozen=True):
    name: Name
    namespace: NoneOrName = ""
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()
    deletion_timestamp: str | None = None


class Namespace(_Part, frozen=True):
    metadata: Metadata


class Node(_Part, frozen=True):
    metadata: Metadata


class ServiceAccount(_Part, frozen=True):
    metadata: Metadata


class ContainerPort(_Part, frozen=True):
    container_port: Port
    name: str = ""
    protocol: Protocol = "TCP"


class Container(_Part, frozen=True):
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(_Part, frozen=True):
    node_name: str = ""
    service_account_name: NoneOrName = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodIP(_Part, frozen=True):
    ip: str

    def __post_init__(self) -> None:
        to_address(self.ip)


class Condition(_Part, frozen=True):
    type: str
    status: str


class PodStatus(_Part, frozen=True):
    phase: str = "Pending"
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.pod_ip:
            to_address(self.pod_ip)


class Pod(_Part, frozen=True):
    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The pod's own addresses, the primary one first; none before the network is set up."""
        texts = [entry.ip for entry in self.status.pod_ips] or [self.status.pod_ip]
        return tuple(to_address(text) for text in texts if text)

    @property
    def ended(self) -> bool:
        """Whether its containers have ended for good: its address may be another pod's by now."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class ServicePort(_Part, frozen=True):
    port: Port
    name: str = ""
    target_port: Port | str | None = None
    protocol: Protocol = "TCP"
    app_protocol: str = ""


class ServiceSpec(_Part, frozen=True):
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    publish_not_ready_addresses: bool = False
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    external_name: str = ""
    internal_traffic_policy: Literal["", "Cluster", "Local"] = ""
    traffic_distribution: str = ""

    def __post_init__(self) -> None:
        for text in (self.cluster_ip, *self.cluster_ips):
            if text not in ("", "None"):
                to_address(text)


class Service(_Part, frozen=True):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The virtual addresses; none when headless."""
        texts = self.spec.cluster_ips or (self.spec.cluster_ip,)
        return tuple(to_address(text) for text in texts if text not in ("", "None"))

    def selects(self, labels: Labels) -> bool:
        """Whether a pod with these labels is an endpoint. No selector selects nothing."""
        selector = self.spec.selector
        return bool(selector) and selector.items() <= labels.items()


Object = Namespace | Node | Pod | Service | ServiceAccount

KINDS: dict[str, type[Object]] = {
    "Namespace": Namespace,
    "Node": Node,
    "Pod": Pod,
    "Service": Service,
    "ServiceAccount": ServiceAccount,
}
CLUSTER_WIDE = frozenset({"Namespace", "Node"})


def key_of(item: Object) -> Key:
    """The key of an object whose namespace, where it has one, is filled in."""
    return Key(type(item).__name__, item.metadata.namespace, item.metadata.name)


def to_address(text: str) -> IPAddress:
    """An address in its one form: an IPv4 address mapped into IPv6 becomes IPv4. Raises ValueError."""
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
