"""Nodes and pods out of network namespaces and veths; nothing of it is in the machine's own namespace.

A node owns its address on `lo`, has one veth `to-<node>` to each other node and one veth `pod-<n>` to each of
its pods, and forwards. A pod has `eth0` and a default route. Next hops are link-local addresses (IPv6) and
the node's address (IPv4), so that no subnet is needed between two ends.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING, Any, TypeVar

from agent.lab import addresses, kernel
from agent.lab.state import NodeState, PodState
from agent.lab.waiting import wait

if TYPE_CHECKING:
    from pyroute2 import IPRoute

T = TypeVar("T")

_NODE_LINK_LOCAL, _POD_LINK_LOCAL = "fe80::1", "fe80::2"
_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 0x04
_RTM_F_CLONED = 0x200
_SCOPE_LINK = 253
_IN_USE_WITHIN = 2.0  # seconds
_UNICAST, _LOCAL = 1, 2

# Files below /proc/sys/net. What a namespace inherits from the machine is set anew, so that labs are alike.
_EVERYWHERE = {
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/addr_gen_mode": "1",  # link-local addresses are given by hand, at once
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    # 14,000 connections to one address must not make the next connect() search for 1.5 ms.
    "ipv4/tcp_tw_reuse": "1",
    "ipv4/ip_local_port_range": "16384 65535",
}
_FORWARDING = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
}


def add_node(node: NodeState) -> None:
    """Make a node's network namespace, with its own and the cluster DNS server's addresses.

    Raises OSError.
    """
    netns = kernel.add_netns(node.netns)
    kernel.in_netns(netns, lambda: _set({**_EVERYWHERE, **_FORWARDING}))

    def work(net: "IPRoute") -> None:
        lo = _index(net, "lo")
        net.link("set", index=lo, state="up")
        for address in (
            addresses.node_v4(node.number),
            addresses.node_v6(node.number),
            addresses.DNS_V4,
            addresses.DNS_V6,
        ):
            _address(net, lo, address)

    _inside(node.netns, work)


def connect_nodes(one: NodeState, other: NodeState) -> None:
    """A veth between two nodes, and routes through it to the other's address and pods."""
    _inside(one.netns, lambda net: _veth(net, link_name(other), link_name(one), other.netns))
    for here, there in ((one, other), (other, one)):
        _inside(here.netns, partial(_towards, here=here, there=there))


def link_name(node: NodeState) -> str:
    """The name, on any other node, of the link to this one."""
    return f"to-{node.name}"


def pod_link_name(pod: PodState) -> str:
    """The name, on its node, of the link to a pod."""
    return f"pod-{pod.number}"


def pod_addresses(pod: PodState, node: NodeState) -> tuple[IPv4Address, IPv6Address]:
    if pod.number == 0:
        return addresses.node_v4(node.number), addresses.node_v6(node.number)
    return addresses.pods_v4(node.number)[pod.number], addresses.pods_v6(node.number)[pod.number]


def add_pod(pod: PodState, node: NodeState) -> None:
    """Make a pod's network namespace and its link to the node.

    Nothing for a pod in the node's own network.
    """
    if pod.number == 0:
        return
    netns = kernel.add_netns(pod.netns)
    kernel.in_netns(netns, lambda: _set(_EVERYWHERE))
    own = pod_addresses(pod, node)

    def on_node(net: "IPRoute") -> None:
        index = _veth(net, pod_link_name(pod), "eth0", pod.netns)
        _address(net, index, IPv6Address(_NODE_LINK_LOCAL))
        sources = addresses.node_v4(node.number), addresses.node_v6(node.number)
        for address, source in zip(own, sources, strict=True):
            _route(net, index, str(address), {"scope": _SCOPE_LINK, "prefsrc": str(source)})

    def in_pod(net: "IPRoute") -> None:
        lo, eth0 = _index(net, "lo"), _index(net, "eth0")
        net.link("set", index=lo, state="up")
        net.link("set", index=eth0, state="up")
        for address in (*own, IPv6Address(_POD_LINK_LOCAL)):
            _address(net, eth0, address)
        _route(net, eth0, "0.0.0.0/0", {"gateway": node.address, "flags": _RTNH_F_ONLINK})
        _route(net, eth0, "::/0", {"gateway": _NODE_LINK_LOCAL})

    _inside(node.netns, on_node)
    _inside(pod.netns, in_pod)


def remove_pod_link(pod: PodState, node: NodeState) -> None:
    """Take a pod's link away at once; its namespace may live until the last descriptor in it is closed."""

    def work(net: "IPRoute") -> None:
        for index in net.link_lookup(ifname=pod_link_name(pod)):
            net.link("del", index=index)

    _inside(node.netns, work)


def use_cubic(netns: str) -> None:
    """Give each route of a namespace, the local tables' included, the congestion control "cubic". Idempotent.

    A namespace may not choose a default of its own, and the machine's may be BBR, with which a veth carries a
    third of the bytes (the kernel's `congctl` is per route).
    """

    def work(net: "IPRoute") -> None:
        wait(lambda: _addresses_in_use(net), _IN_USE_WITHIN)
        for route in [*net.get_routes(family=AF_INET), *net.get_routes(family=AF_INET6)]:
            link_local = str(route.get_attr("RTA_DST") or "").startswith("fe80:")
            if route["type"] in (_UNICAST, _LOCAL) and not route["flags"] & _RTM_F_CLONED and not link_local:
                _make_cubic(net, route)

    _inside(netns, work)


def _addresses_in_use(net: "IPRoute") -> bool:
    """Whether each IPv6 address has its local route, which the kernel adds a little later."""
    routes = net.get_routes(family=AF_INET6)
    local = {route.get_attr("RTA_DST") for route in routes if route["type"] == _LOCAL}
    return {address.get_attr("IFA_ADDRESS") for address in net.get_addr(family=AF_INET6)} <= local


def _make_cubic(net: "IPRoute", route: Any) -> None:
    metrics = route.get_attr("RTA_METRICS")
    if metrics is not None and metrics.get_attr("RTAX_CC_ALGO") == "cubic":
        return
    names = ("table", "dst", "oif", "gateway", "prefsrc", "priority")
    attributes = {name: route.get_attr(f"RTA_{name.upper()}") for name in names}
    spec = {name: value for name, value in attributes.items() if value}
    spec |= {name: route[name] for name in ("family", "type", "scope", "proto", "dst_len")}
    spec |= {"flags": route["flags"] & _RTNH_F_ONLINK}
    # The kernel's own IPv6 routes to local addresses have a metric (0) that nobody else can give a route.
    net.route("del", **spec)
    net.route("replace", **spec, metrics={"cc_algo": "cubic"})  # the agent may have put its own back


def _inside(netns: str, work: "Callable[[IPRoute], T]") -> T:
    from pyroute2 import IPRoute  # noqa: PLC0415  # a quarter of a second, which `lab exec` can do without

    def body() -> T:
        with closing(IPRoute()) as net:
            return work(net)

    return kernel.in_netns(kernel.NETNS_DIRECTORY / netns, body)


def _towards(net: "IPRoute", here: NodeState, there: NodeState) -> None:
    """The half of `connect_nodes` that is done on each side.

    A link-local address carries its node's number.
    """
    index = _index(net, link_name(there))
    net.link("set", index=index, state="up")
    _address(net, index, IPv6Address(f"fe80::{here.number:x}"))
    own_v4, own_v6 = str(addresses.node_v4(here.number)), str(addresses.node_v6(here.number))
    via_v4 = {"prefsrc": own_v4, "gateway": there.address, "flags": _RTNH_F_ONLINK}
    via_v6 = {"prefsrc": own_v6, "gateway": f"fe80::{there.number:x}"}
    _route(net, index, there.address, {"prefsrc": own_v4, "scope": _SCOPE_LINK})
    _route(net, index, str(addresses.pods_v4(there.number)), via_v4)
    _route(net, index, str(addresses.node_v6(there.number)), via_v6)
    _route(net, index, str(addresses.pods_v6(there.number)), via_v6)


def _veth(net: "IPRoute", name: str, peer_name: str, peer_netns: str) -> int:
    peer = {"ifname": peer_name, "net_ns_fd": str(kernel.NETNS_DIRECTORY / peer_netns)}
    net.link("add", ifname=name, kind="veth", peer=peer)
    index = _index(net, name)
    net.link("set", index=index, state="up")
    return index


def _address(net: "IPRoute", index: int, address: IPv4Address | IPv6Address) -> None:
    nodad = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
    length = 64 if address.is_link_local else address.max_prefixlen
    net.addr("add", index=index, address=str(address), prefixlen=length, **nodad)


def _route(net: "IPRoute", index: int, destination: str, details: Mapping[str, Any]) -> None:
    net.route("add", dst=destination, oif=index, **details)


def _index(net: "IPRoute", name: str) -> int:
    found: list[int] = list(net.link_lookup(ifname=name))
    return found[0]


def _set(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        (Path("/proc/sys/net") / name).write_text(value)


def remove(netns: Iterable[str]) -> None:
    """Take network namespaces away by name, and their links with them. Idempotent."""
    for name in netns:
        kernel.remove_netns(name)
