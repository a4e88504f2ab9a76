"""What we read of the Kubernetes objects: frozen, decoded once, everything else left behind.

What pods have in common they share, and what nobody asks for is dropped as soon as it is decoded.
Field names are Kubernetes' own in snake case. Defaults are those that the API server would have filled in, so
that a plain manifest means here what it means on a cluster.
"""

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from agent.model.probes import Handler, Lifecycle
from agent.model.sharing import shared, shared_mapping

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
NoneOrName = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Protocol = Literal["TCP", "UDP", "SCTP"]
Labels = Mapping[str, str]


# The kubelet annotates the mirror pod of a static pod: that it is one (the API server lets nobody add or
# remove this later), and the uid that the kubelet has for the pod.
MIRROR, STATIC_POD = "kubernetes.io/config.mirror", "kubernetes.io/config.hash"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(r"\.".join([_OCTET] * 4))
_OF_THE_MESH = re.compile(r"istio\.io/|^warren\.dev/|^kubernetes\.io/config\.(mirror|hash)$")


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


class Part(Struct, frozen=True, gc=False, rename=_json_name):
    """A piece of an object. Not the collector's business: what is decoded refers to nothing above itself."""


class Owner(Part, frozen=True):
    kind: str
    name: str
    controller: bool = False


class Metadata(Part, frozen=True):
    name: Name
    namespace: NoneOrName = ""
    uid: str = ""
    labels: Labels = {}
    annotations: Labels = {}  # of the mesh
    owner_references: tuple[Owner, ...] = ()
    deletion_timestamp: str | None = None

    def __post_init__(self) -> None:
        ours = ((name, text) for name, text in self.annotations.items() if _OF_THE_MESH.search(name))
        force_setattr(self, "annotations", shared_mapping(tuple(ours)))
        force_setattr(self, "labels", shared_mapping(tuple(self.labels.items())))
        force_setattr(self, "namespace", sys.intern(self.namespace))
        force_setattr(self, "owner_references", shared(self.owner_references))


class Object(Part, frozen=True):
    """Something with a name of its own."""

    metadata: Metadata


class Namespace(Object, frozen=True):
    pass


class Node(Object, frozen=True):
    pass


class ServiceAccount(Object, frozen=True):
    pass


class ContainerPort(Part, frozen=True):
    container_port: Port
    name: str = ""
    protocol: Protocol = "TCP"


class Container(Part, frozen=True):
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""
    liveness_probe: Handler | None = None
    readiness_probe: Handler | None = None
    startup_probe: Handler | None = None
    lifecycle: Lifecycle = Lifecycle()

    @property
    def probe_ports(self) -> frozenset[int]:
        """On which the kubelet calls it."""
        named = {port.name: port.container_port for port in self.ports if port.name}
        probes = (self.liveness_probe, self.readiness_probe, self.startup_probe)
        hooks = (self.lifecycle.post_start, self.lifecycle.pre_stop)
        return frozenset(port for one in (*probes, *hooks) if one for port in one.ports(named))


class PodSpec(Part, frozen=True):
    node_name: str = ""
    service_account_name: NoneOrName = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()

    def __post_init__(self) -> None:
        for name in ("node_name", "service_account_name"):
            force_setattr(self, name, sys.intern(getattr(self, name)))
        for name in ("containers", "init_containers"):
            force_setattr(self, name, shared(getattr(self, name)))


class PodIP(Part, frozen=True):
    ip: str

    def __post_init__(self) -> None:
        to_address(self.ip)


class Condition(Part, frozen=True):
    type: str = ""
    status: str = ""


class PodStatus(Part, frozen=True):
    phase: str = "Pending"
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.pod_ip:
            to_address(self.pod_ip)
        ready = (condition for condition in self.conditions if condition.type == "Ready")
        force_setattr(self, "conditions", shared(tuple(ready)))
        force_setattr(self, "phase", sys.intern(self.phase))


class Pod(Object, frozen=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The pod's own addresses, the primary one first; none before the network is set up."""
        texts = [entry.ip for entry in self.status.pod_ips] or [self.status.pod_ip]
        return tuple(to_address(text) for text in texts if text)

    @property
    def probe_ports(self) -> frozenset[int]:
        """On which the kubelet calls its containers; those that run beside an init container count too."""
        containers = (*self.spec.containers, *self.spec.init_containers)
        return frozenset().union(*(container.probe_ports for container in containers))

    @property
    def has_account(self) -> bool:
        """Whether it has a service account, and with it an identity.

        An API server gives one to each pod that it admits except to mirror pods. A node creates those by
        itself: they must never be a reason to trust the node with more.
        """
        return bool(self.spec.service_account_name) and MIRROR not in self.metadata.annotations

    @property
    def ended(self) -> bool:
        """Whether its containers have ended for good: its address may be another pod's by now."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class ServicePort(Part, frozen=True):
    port: Port
    name: str = ""
    target_port: Port | str | None = None
    protocol: Protocol = "TCP"
    app_protocol: str = ""


class ServiceSpec(Part, frozen=True):
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
    session_affinity: str = ""

    def __post_init__(self) -> None:
        for text in (self.cluster_ip, *self.cluster_ips):
            if text not in ("", "None"):
                to_address(text)


class Service(Object, frozen=True):
    spec: ServiceSpec = ServiceSpec()

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The virtual addresses; none when headless."""
        texts = self.spec.cluster_ips or (self.spec.cluster_ip,)
        return tuple(to_address(text) for text in texts if text not in ("", "None"))

    @property
    def families(self) -> frozenset[str]:
        """Of `ipFamilies`, which an API server fills in; else those of the addresses."""
        return frozenset(self.spec.ip_families or [f"IPv{address.version}" for address in self.addresses])

    @property
    def selector(self) -> Labels:
        """The labels of its endpoints; none: it selects nothing."""
        return self.spec.selector


class SlicePort(Part, frozen=True):
    """`port` None: any port, which is of no use to us."""

    name: str = ""
    port: Port | None = None
    protocol: Protocol = "TCP"


class Reference(Part, frozen=True):
    kind: str = ""
    name: str = ""


class EndpointConditions(Part, frozen=True):
    """serving: as ready, but also while it terminates."""

    ready: bool = True
    serving: bool = False
    terminating: bool = False

    @property
    def draining(self) -> bool:
        return self.serving and self.terminating


class Endpoint(Part, frozen=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: Reference = Reference()


class EndpointSlice(Object, frozen=True):
    """Endpoints of the Service that its label names, all with the same ports.

    `endpoints` are those that are no pods, `pods` the names of the others, which tell all else themselves.
    """

    address_type: str = ""
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    pods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_pods = [endpoint for endpoint in self.endpoints if endpoint.target_ref.kind == "Pod"]
        others = tuple(endpoint for endpoint in self.endpoints if endpoint.target_ref.kind != "Pod")
        if self.address_type == "FQDN":  # deprecated, and never taken up by kube-proxy either
            others = ()
        for endpoint in others:
            for text in endpoint.addresses:
                to_address(text)
        force_setattr(self, "endpoints", others)
        force_setattr(self, "pods", (*self.pods, *(endpoint.target_ref.name for endpoint in of_pods)))

    @property
    def service(self) -> str:
        """Name of the Service; empty when they are no Service's."""
        return self.metadata.labels.get("kubernetes.io/service-name", "")


def key_of(item: Object) -> Key:
    """The key of an object whose namespace, where it has one, is filled in."""
    return Key(type(item).__name__, item.metadata.namespace, item.metadata.name)


@lru_cache(4096)  # asked when an object is decoded, and soon again when it is translated
def to_address(text: str) -> IPAddress:
    """An address in its one form: an IPv4 address mapped into IPv6 becomes IPv4. Raises ValueError."""
    if plain := _IPV4.fullmatch(text):  # as nearly all are, read in a third of the time
        a, b, c, d = plain.groups()
        return IPv4Address(int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d))
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def to_range(text: str) -> IPAddress | IPNetwork:
    """An address, or a range of them with the bits after its prefix cleared. Raises ValueError."""
    if "/" not in text:
        return to_address(text)
    network = ip_network(text, strict=False)
    return network if network.num_addresses > 1 else network.network_address


def fits(selector: Labels, labels: Labels) -> bool:
    """Whether a selector selects what has these labels. No selector selects nothing."""
    return bool(selector) and selector.items() <= labels.items()
