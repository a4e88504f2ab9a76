"""What we read of the Kubernetes objects: frozen, decoded once, everything else left behind.

What pods have in common they share, and what nobody asks for is dropped as soon as it is decoded.
Field names are Kubernetes' own in snake case. Defaults are those that the API server would have filled in, so
that a plain manifest means here what it means on a cluster.
"""

import sys
from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from agent.model.schema.objects import (
    Condition,
    IPAddress,
    Labels,
    NoneOrName,
    Object,
    Part,
    Port,
    to_address,
)
from agent.model.schema.probes import Handler, Lifecycle
from agent.model.schema.sharing import shared, shared_mapping

Protocol = Literal["TCP", "UDP", "SCTP"]

# The kubelet annotates the mirror pod of a static pod: that it is one (the API server lets nobody add or
# remove this later), and the uid that the kubelet has for the pod.
MIRROR, STATIC_POD = "kubernetes.io/config.mirror", "kubernetes.io/config.hash"


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


class PodStatus(Part, frozen=True):
    phase: str = "Pending"
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.pod_ip:
            to_address(self.pod_ip)
        if len(self.pod_ips) == 1:  # as most pods have
            [only] = self.pod_ips
            force_setattr(self, "pod_ip", only.ip)
            force_setattr(self, "pod_ips", ())
        elif self.pod_ips:  # the first of which it is
            force_setattr(self, "pod_ip", "")
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
    selector: Labels = msgspec.field(default_factory=dict)
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
        force_setattr(self, "selector", shared_mapping(tuple(self.selector.items())))
        force_setattr(self, "ports", shared(self.ports))
        if self.cluster_ips == (self.cluster_ip,):
            force_setattr(self, "cluster_ips", ())


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
