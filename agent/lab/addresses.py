"""The lab's addresses. All are private, and live in the lab's own network namespaces only.

nodes       172.30.0.<node>      fd00:172:30::<node>
pods        10.244.<node>.<n>    fd00:10:244:<node>::<n>
Services    10.96.0.0/16         fd00:10:96::/112           cluster DNS is number 10 of both
"""

import hashlib
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from agent.lab.errors import LabError

SERVICES_V4 = IPv4Network("10.96.0.0/16")
SERVICES_V6 = IPv6Network("fd00:10:96::/112")
DNS_V4 = SERVICES_V4[10]
DNS_V6 = SERVICES_V6[10]
_FIRST_POD, _LAST_POD = 2, 254
_FIRST_SERVICE = 256  # 10.96.0.x stays free for addresses that are fixed, as the DNS server's is


def node_v4(node: int) -> IPv4Address:
    return IPv4Address("172.30.0.0") + node


def node_v6(node: int) -> IPv6Address:
    return IPv6Address("fd00:172:30::") + node


def pods_v4(node: int) -> IPv4Network:
    """The pods' range of one node, a /24."""
    return IPv4Network(f"10.244.{node}.0/24")


def pods_v6(node: int) -> IPv6Network:
    """The pods' range of one node, a /64."""
    return IPv6Network(f"fd00:10:244:{node:x}::/64")


def free_pod_number(taken: Collection[int]) -> int:
    """The lowest number that no pod of the node has: an address is used again as soon as it is free."""
    for number in range(_FIRST_POD, _LAST_POD + 1):
        if number not in taken:
            return number
    raise LabError(f"a node of the lab holds at most {_LAST_POD - _FIRST_POD + 1} pods: use more --nodes")


def service_number(namespace: str, name: str, taken: Collection[int]) -> int:
    """A Service's number in both ranges: derived from its name, so that it is the same in each lab."""
    room = SERVICES_V4.num_addresses - 1 - _FIRST_SERVICE
    start = int.from_bytes(hashlib.sha256(f"{namespace}/{name}".encode()).digest()[:4], "big")
    for step in range(room):
        number = _FIRST_SERVICE + (start + step) % room
        if number not in taken:
            return number
    raise LabError(f"no Service address is left for {namespace}/{name}")


def number_of_service(text: str) -> int | None:
    """The number of a Service's address within its range; None for one that is not of the lab's ranges."""
    address = ip_address(text)
    for network in (SERVICES_V4, SERVICES_V6):
        if address in network:
            return int(address) - int(network.network_address)
    return None
