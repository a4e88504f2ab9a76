"""Values of policies as the tunnels are told them."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from protocols.security_pb2 import Address, StringMatch

PRESENT = StringMatch(presence={})


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
