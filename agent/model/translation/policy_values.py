"""Values of policies as the tunnels are told them."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

from agent.model.mesh import ROOT_NAMESPACE
from agent.model.schema.istio.targeting import TargetRef
from agent.model.schema.objects import Labels, Metadata
from protocols.security_pb2 import Address, Scope, StringMatch

PRESENT = StringMatch(presence={})


class Selecting(Protocol):
    """A policy that says for what it is."""

    @property
    def metadata(self) -> Metadata: ...
    @property
    def selector(self) -> Labels: ...
    @property
    def targets(self) -> tuple[TargetRef, ...]: ...


def scope(policy: Selecting) -> Scope:
    """Of what it selects, its namespace, or (root) the mesh."""
    if policy.selector or policy.targets:
        return Scope.WORKLOAD_SELECTOR
    return Scope.GLOBAL if policy.metadata.namespace == ROOT_NAMESPACE else Scope.NAMESPACE


def string(value: str) -> StringMatch:
    """Whole, `begin*`, `*end`, or `*` for any."""
    if value == "*":
        return PRESENT
    if value.startswith("*"):
        return StringMatch(suffix=value[1:])
    return StringMatch(prefix=value[:-1]) if value.endswith("*") else StringMatch(exact=value)


def addresses(blocks: Iterable[str]) -> list[Address]:
    """Addresses and CIDR ranges."""
    return [_address(ip_network(block, strict=False)) for block in blocks]


def _address(network: IPv4Network | IPv6Network) -> Address:
    return Address(address=network.network_address.packed, length=network.prefixlen)
