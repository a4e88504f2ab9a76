"""Istio's ServiceEntry.

What contradicts itself is refused here, by field, with the rules of Istio's webhook and of the API server's
schema; what only makes sense together with other objects is judged in the translation.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec.structs import force_setattr

from agent.model.schema.istio.base import IstioObject, Strict, WorkloadSelector
from agent.model.schema.istio.workload_entry import WorkloadEntrySpec
from agent.model.schema.objects import (
    IPAddress,
    IPNetwork,
    Labels,
    Part,
    Port,
    to_address,
    to_range,
)
from agent.model.schema.syntax import (
    FieldError,
    check_range,
    is_dns_label,
    is_dns_pattern,
)

Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]
RESOLVED = frozenset({"DNS", "DNS_ROUND_ROBIN"})  # the endpoints are known by names

_HTTP_OR_TLS = ("http", "http2", "http_proxy", "grpc", "grpc-web", "https", "tls")
_PROTOCOLS = frozenset({*_HTTP_OR_TLS, "tcp", "udp", "mongo", "mysql", "redis"})
_OF_DYNAMIC_DNS = ("http", "http2", "grpc", "tls")
_WAYPOINT = "istio.io/use-waypoint"


class EntryPort(Strict, frozen=True):
    number: Port
    name: str
    protocol: str = ""
    target_port: Port | None = None

    def __post_init__(self) -> None:
        if not is_dns_label(self.name):
            raise FieldError(f"{self.name!r} cannot be a port's name: letters, digits and - only", "name")
        if self.protocol and self.protocol.lower() not in _PROTOCOLS:
            known = ", ".join(sorted(_PROTOCOLS)).upper()
            raise FieldError(f"{self.protocol!r} is no protocol; write one of {known}", "protocol")


class ServiceEntrySpec(Strict, frozen=True):
    hosts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]
    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)] = ()
    ports: Annotated[tuple[EntryPort, ...], msgspec.Meta(max_length=256)] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Resolution = "NONE"
    endpoints: Annotated[tuple[WorkloadEntrySpec, ...], msgspec.Meta(max_length=4096)] = ()
    workload_selector: WorkloadSelector | None = None
    subject_alt_names: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()

    @property
    def passes_through(self) -> bool:
        """Whether connections go to where they went."""
        return self.resolution == "NONE"

    @property
    def has_endpoints(self) -> bool:
        """Whether it has any of its own, or may have."""
        return not self.passes_through and not self.is_dynamic

    @property
    def is_dynamic(self) -> bool:
        """Whether DNS is asked for what requests and ClientHellos name, under its wildcards."""
        return self.resolution == "DYNAMIC_DNS"

    def __post_init__(self) -> None:
        self._check_hosts()
        self._check_addresses()
        self._check_ports()
        self._check_endpoints()
        if self.is_dynamic:
            self._check_dynamic_dns()
        _check_export_to(self.export_to)

    def _check_hosts(self) -> None:
        for index, host in enumerate(self.hosts):
            if host == "*" or not is_dns_pattern(host):
                raise FieldError(f"{host!r} is no DNS name, nor one that begins with *", "hosts", index)
        unnamed = self.resolution.startswith("DNS") and not self.endpoints
        wild = next((host for host in self.hosts if "*" in host), None)
        if wild and unnamed:
            raise FieldError(f"{wild} cannot be resolved; give endpoints, or use DYNAMIC_DNS", "hosts")

    def _check_addresses(self) -> None:
        for index, text in enumerate(self.addresses):
            check_range(text, "addresses", index)
            if "/" in text and self.resolution not in ("NONE", "STATIC"):
                reason = f"resolution {self.resolution} cannot have a range; give single addresses"
                raise FieldError(f"{text}: {reason}", "addresses", index)

    def _check_ports(self) -> None:
        for what in ("number", "name"):
            values = [getattr(port, what) for port in self.ports]
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise FieldError(f"{what} {twice} is used twice; ports need different ones", "ports")
        if len(self.hosts) > 1 and self.resolution != "NONE":
            for index, port in enumerate(self.ports):
                if port.protocol.lower() not in _HTTP_OR_TLS:
                    raise FieldError(
                        "with several hosts each port needs a protocol that names the host (HTTP, TLS, ...): "
                        "write one ServiceEntry for each host",
                        *("ports", index, "protocol"),
                    )

    def _check_endpoints(self) -> None:
        if self.endpoints and self.workload_selector:
            raise FieldError("endpoints and workloadSelector exclude each other; keep one", "endpoints")
        if self.endpoints and not self.has_endpoints:
            raise FieldError(
                f"resolution {self.resolution} has none; remove them, or use STATIC", "endpoints"
            )
        if self.resolution == "DNS_ROUND_ROBIN" and len(self.endpoints) > 1:
            raise FieldError("resolution DNS_ROUND_ROBIN has one; use DNS for several", "endpoints")
        names = {port.name for port in self.ports}
        for index, one in enumerate(self.endpoints):
            if one.address and not one.ip and self.resolution == "STATIC":
                reason = f"{one.address} is no address; for a name use resolution DNS"
                raise FieldError(reason, "endpoints", index, "address")
            if not one.address and self.resolution != "STATIC":
                reason = f"resolution {self.resolution} needs an address or a DNS name"
                raise FieldError(reason, "endpoints", index)
            if unknown := next((name for name in one.ports if name not in names), None):
                raise FieldError(
                    "no port of the ServiceEntry has this name; use one that has",
                    "endpoints",
                    index,
                    "ports",
                    unknown,
                )

    def _check_dynamic_dns(self) -> None:
        if self.addresses:
            raise FieldError("resolution DYNAMIC_DNS has none; remove them", "addresses")
        for index, host in enumerate(self.hosts):
            if not host.startswith("*"):
                reason = f"resolution DYNAMIC_DNS is for wildcards; use DNS for {host}"
                raise FieldError(reason, "hosts", index)
        for index, port in enumerate(self.ports):
            if port.protocol.lower() not in _OF_DYNAMIC_DNS:
                reason = "resolution DYNAMIC_DNS knows HTTP, HTTP2, GRPC and TLS only"
                raise FieldError(reason, "ports", index, "protocol")


class HostAddress(Part, frozen=True):
    """An address that Istio's control plane allotted to one of the hosts."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(Part, frozen=True):
    """What is malformed in it is left out: its author is no user."""

    addresses: tuple[HostAddress, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "addresses", tuple(one for one in self.addresses if _is_address(one.value)))


class ServiceEntry(IstioObject, frozen=True, kw_only=True):
    spec: ServiceEntrySpec
    status: ServiceEntryStatus = ServiceEntryStatus()

    def __post_init__(self) -> None:
        super().__post_init__()
        internal = self.spec.is_dynamic and self.spec.location == "MESH_INTERNAL"
        if internal and self.metadata.labels.get(_WAYPOINT, "none").lower() not in ("", "none"):
            raise FieldError(
                "MESH_INTERNAL with resolution DYNAMIC_DNS takes no waypoint", "spec", "location"
            )
        if self.metadata.namespace in self.spec.export_to and "." in self.spec.export_to:
            reason = f". is {self.metadata.namespace}; write it once"
            raise FieldError(reason, "spec", "exportTo")

    @property
    def selector(self) -> Labels:
        """The labels of its endpoints; none: it selects nothing."""
        return self.spec.workload_selector.labels if self.spec.workload_selector else {}

    @property
    def addresses(self) -> tuple[IPAddress | IPNetwork, ...]:
        """The virtual addresses that its author gave to all of its hosts."""
        return tuple(to_range(text) for text in self.spec.addresses)

    def addresses_of(self, host: str) -> tuple[IPAddress | IPNetwork, ...]:
        """The virtual addresses of a host: those of its status where its author gave none, and wants some."""
        if not self.is_allotted:
            return self.addresses
        if not self.can_be_allotted(host):
            return ()
        return tuple(to_address(address.value) for address in self.status.addresses if address.host == host)

    @property
    def is_allotted(self) -> bool:
        """Whether its hosts get addresses from the mesh, as istiod's automatic allocation has it."""
        label = self.metadata.labels.get("networking.istio.io/enable-autoallocate-ip", "")
        return not self.spec.addresses and not self.spec.passes_through and label.lower() != "false"

    def can_be_allotted(self, host: str) -> bool:
        """A wildcard is many names: they can have one address where clients name which they mean."""
        return self.spec.is_dynamic or not host.startswith("*")


def _check_export_to(namespaces: Iterable[str]) -> None:
    wanted = list(namespaces)
    for index, one in enumerate(wanted):
        if one not in (".", "*", "~") and not is_dns_label(one):
            raise FieldError(f"{one!r} is no namespace, nor one of . * ~", "exportTo", index)
        if one in wanted[:index]:
            raise FieldError(f"{one} is listed twice; write it once", "exportTo", index)
        if one in ("*", "~") and len(wanted) > 1:
            meaning = "all namespaces" if one == "*" else "none"
            raise FieldError(f"{one} means {meaning}; it stands alone", "exportTo", index)


def _is_address(text: str) -> bool:
    try:
        to_address(text)
    except ValueError:
        return False
    return True
