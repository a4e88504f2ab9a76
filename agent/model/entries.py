"""Istio's ServiceEntry and WorkloadEntry, as far as we read them.

What contradicts itself is refused here, by field, with the rules of Istio's own validation; what only makes
sense together with other objects is judged in the translation.
"""

from typing import Annotated, Literal

import msgspec

from agent.model.objects import (
    Condition,
    IPAddress,
    IPNetwork,
    Labels,
    Metadata,
    NoneOrName,
    Object,
    Part,
    Port,
    to_address,
    to_range,
)

Host = Annotated[
    str, msgspec.Meta(pattern=r"^(\*\.)?[a-zA-Z0-9_]([-a-zA-Z0-9_.]*[a-zA-Z0-9_])?$", max_length=253)
]
Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]
RESOLVED = frozenset({"DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"})  # the endpoints are known by names


class WorkloadEntrySpec(Part, frozen=True):
    """An endpoint outside of Kubernetes: a WorkloadEntry's `spec`, or one of a ServiceEntry's `endpoints`.

    address: an address or a DNS name, empty where only a network's gateway leads there; ports: by the name of
    a service's port; locality: region/zone/subzone; weight: 0 is not set.
    """

    address: Annotated[str, msgspec.Meta(max_length=256)] = ""
    ports: dict[str, Port] = msgspec.field(default_factory=dict)
    labels: Labels = msgspec.field(default_factory=dict)
    network: str = ""
    locality: str = ""
    weight: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    service_account: NoneOrName = ""

    def __post_init__(self) -> None:
        if self.address.startswith("unix:"):
            raise ValueError("address: a Unix socket cannot be an endpoint; give an address or a DNS name")
        if not self.address and not self.network:
            raise ValueError("address is needed, or the network whose gateway leads there")

    @property
    def ip(self) -> IPAddress | None:
        """The address, unless it is a name or missing."""
        try:
            return to_address(self.address)
        except ValueError:
            return None


class WorkloadEntryStatus(Part, frozen=True):
    conditions: tuple[Condition, ...] = ()


class WorkloadEntry(Object, frozen=True):
    spec: WorkloadEntrySpec
    status: WorkloadEntryStatus = WorkloadEntryStatus()

    @property
    def labels(self) -> Labels:
        """Those of the object before those of its `spec`."""
        return {**self.spec.labels, **self.metadata.labels}

    @property
    def healthy(self) -> bool:
        """Unless a health check says otherwise."""
        return not any(c.type == "Healthy" and c.status == "False" for c in self.status.conditions)


class EntryPort(Part, frozen=True):
    number: Port
    name: str
    protocol: str = ""
    target_port: Port | None = None


class WorkloadSelector(Part, frozen=True):
    labels: Labels = msgspec.field(default_factory=dict)


class ServiceEntrySpec(Part, frozen=True):
    hosts: Annotated[tuple[Host, ...], msgspec.Meta(min_length=1, max_length=256)]
    addresses: tuple[str, ...] = ()
    ports: tuple[EntryPort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Resolution = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: WorkloadSelector | None = None
    subject_alt_names: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_addresses()
        self._check_endpoints()
        for what in ("number", "name"):
            values = [getattr(port, what) for port in self.ports]
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"ports: {what} {twice} is there twice")

    def _check_addresses(self) -> None:
        if self.addresses and self.resolution == "DYNAMIC_DNS":
            raise ValueError("addresses: resolution DYNAMIC_DNS has none")
        for text in self.addresses:
            if isinstance(to_range(text), IPNetwork) and self.resolution not in ("NONE", "STATIC"):
                raise ValueError(f"addresses: resolution {self.resolution} cannot have a range, {text}")

    def _check_endpoints(self) -> None:
        if self.endpoints and self.workload_selector:
            raise ValueError("endpoints and workloadSelector exclude each other")
        if self.endpoints and self.resolution in ("NONE", "DYNAMIC_DNS"):
            raise ValueError(f"endpoints: resolution {self.resolution} has none")
        named = next((one.address for one in self.endpoints if one.address and not one.ip), None)
        if named and self.resolution == "STATIC":
            raise ValueError(f"endpoints: {named} is no address; for a name use resolution DNS")
        wild = next((host for host in self.hosts if host.startswith("*")), None)
        if wild and self.resolution.startswith("DNS") and not (self.endpoints or self.workload_selector):
            raise ValueError(f"hosts: {wild} cannot be resolved; give endpoints, or use DYNAMIC_DNS")


class HostAddress(Part, frozen=True):
    """An address that Istio's control plane allotted to one of the hosts."""

    value: str
    host: str = ""

    def __post_init__(self) -> None:
        to_address(self.value)


class ServiceEntryStatus(Part, frozen=True):
    addresses: tuple[HostAddress, ...] = ()


class Dated(Metadata, frozen=True):
    """creation_timestamp: RFC 3339 in UTC, as the API server writes it, so that text order is time order."""

    creation_timestamp: str = ""


class ServiceEntry(Object, frozen=True):
    metadata: Dated
    spec: ServiceEntrySpec
    status: ServiceEntryStatus = ServiceEntryStatus()

    @property
    def selector(self) -> Labels:
        """The labels of its endpoints; none: it selects nothing."""
        return self.spec.workload_selector.labels if self.spec.workload_selector else {}

    @property
    def addresses(self) -> tuple[IPAddress | IPNetwork, ...]:
        """The virtual addresses that its author gave to all of its hosts."""
        return tuple(to_range(text) for text in self.spec.addresses)

    def addresses_of(self, host: str) -> tuple[IPAddress | IPNetwork, ...]:
        """The virtual addresses of a host: allotted ones where its author gave none, and wants some."""
        if self.spec.addresses or self.spec.resolution == "NONE" or self._refuses_allotted:
            return self.addresses
        if host.startswith("*") and self.spec.resolution != "DYNAMIC_DNS":
            return ()
        return tuple(to_address(address.value) for address in self.status.addresses if address.host == host)

    @property
    def _refuses_allotted(self) -> bool:
        return self.metadata.labels.get("networking.istio.io/enable-autoallocate-ip", "").lower() == "false"
