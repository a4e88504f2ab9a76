"""Istio's WorkloadEntry, and the same as one of a ServiceEntry's `endpoints`."""

from typing import Annotated

import msgspec

from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.objects import Condition, IPAddress, Labels, NoneOrName, Part, to_address
from agent.model.schema.syntax import FieldError, check_labels, is_dns_label, is_dns_name

_Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class EndpointSpec(Strict, frozen=True):
    """An endpoint outside of Kubernetes.

    address: an address or a DNS name, empty where only a network's gateway leads there; ports: by the name of
    a service's port; locality: region/zone/subzone; weight: 0 is not set.
    """

    address: str = ""
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    labels: Labels = msgspec.field(default_factory=dict)
    network: str = ""
    locality: str = ""
    weight: _Unsigned = 0
    service_account: NoneOrName = ""

    @property
    def ip(self) -> IPAddress | None:
        """The address, unless it is a name or missing."""
        try:
            return to_address(self.address)
        except ValueError:
            return None


class WorkloadEntrySpec(EndpointSpec, frozen=True):
    """One that somebody wrote: a WorkloadEntry's `spec`, or one of a ServiceEntry's `endpoints`."""

    def __post_init__(self) -> None:
        if self.address.startswith("unix:"):
            raise FieldError("a Unix socket cannot be an endpoint; give an address or a DNS name", "address")
        if not self.address and not self.network:
            raise FieldError("address is needed, or the network whose gateway leads there")
        if self.address and not self.ip and not is_dns_name(self.address):
            raise FieldError(f"{self.address!r} is no address and no DNS name", "address")
        for name, port in self.ports.items():
            if not is_dns_label(name, 62):
                raise FieldError(f"{name!r} is no port's name: letters, digits and - only", "ports", name)
            if not 1 <= port <= 65535:
                raise FieldError(f"{port} is no port number (1 to 65535)", "ports", name)
        check_labels(self.labels.items(), "labels")


class WorkloadEntryStatus(Part, frozen=True):
    conditions: tuple[Condition, ...] = ()


class WorkloadEntry(IstioObject, frozen=True, kw_only=True):
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
