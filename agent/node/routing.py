"""What a pod's network namespace must route for the tunnel to reach the pod's application.

The tunnel connects to the application from the client's own address. The connect hook marks such a connection
(`MARK`). Here is the rest, for IPv4 and IPv6 alike:

    50:  from all fwmark 0x5741 lookup 100      table 100: local default dev lo
    100: from all lookup local                  the kernel's own rule, moved from preference 0

so that it stays on lo, and is seen to come from there: `sk_lookup` sees the device of the route's result, and
with the local table first it would see the pod's eth0 and capture the connection once more. The application's
replies, to a client that is elsewhere, follow because `net.ipv4.tcp_fwmark_accept` (it is for both families)
gives the accepted socket the mark, and `fwmark_reflect` a reset of the kernel's where no application listens.

A listener that is bound to a device hears only what comes by it. For such a one the tunnel binds its
connection to the device; table 100 has a default for each, of less preference, so that this stays inside and
seems to come by the device.

What an application asks for is redirected to an address of lo that depends on it, in 127.0.0.0/8 or, for
IPv6, in a prefix of our own (`PREFIX`) that lo is given for this:

    local fd29:fca8:b7bf::/64 dev lo src ::1   in the kernel's local table

With `net.ipv4.tcp_migrate_req` (Linux 5.14, both families) a tunnel that ends leaves the connections that it
has not accepted to the one that listens beside it (SO_REUSEPORT); else the kernel would reset them.
"""

import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import NamedTuple

from agent.node import netlink
from agent.node.errors import NodeError
from agent.node.netlink import CREATE, EXCLUSIVE, REPLACE, ROUTE, attribute, attributes, number
from agent.node.netns import NetnsFd

MARK = 0x5741  # MARK_DELIVERY of bpf/constants.h
TABLE = 100
PREFIX = IPv6Network("fd29:fca8:b7bf::/64")  # REDIRECT_PREFIX_0 and _1 there
_MARKED, _LOCAL, _KERNEL_LOCAL = 50, 100, 0  # preferences
_TABLE_LOCAL = 255
_LESS = 2000  # a metric above that which IPv6 gives to routes without one
_STATIC, _SCOPE_HOST, _TYPE_LOCAL = 4, 254, 2
_TO_TABLE = 1  # what a rule does
_LO = 1
_NEW_ROUTE, _DEL_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_RULE, _DEL_RULE, _GET_RULE = 32, 33, 34
_HEAD = struct.Struct("=BBBBBBBBI")  # struct rtmsg, and struct fib_rule_hdr
_DST, _OIF, _PRIORITY, _SOURCE, _FWMARK, _ROUTE_TABLE, _RULE_TABLE = 1, 4, 6, 7, 10, 15, 15
_PROC = Path("/proc")
_SETTINGS = [
    "sys/net/ipv4/tcp_fwmark_accept",
    "sys/net/ipv4/fwmark_reflect",
    "sys/net/ipv4/tcp_migrate_req",
    "sys/net/ipv6/fwmark_reflect",
]
_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")


class _Route(NamedTuple):
    """To what is local; without a network everything is. metric, source: the kernel's choice without one."""

    family: int
    table: int
    device: int
    network: IPv6Network | None = None
    metric: int = 0
    source: bytes = b""

    def packed(self) -> bytes:
        length = self.network.prefixlen if self.network else 0
        head = _HEAD.pack(self.family, length, 0, 0, self.table, _STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0)
        given = {
            _DST: self.network and self.network.network_address.packed,
            _OIF: self.device,
            _PRIORITY: self.metric,
            _SOURCE: self.source,
            _ROUTE_TABLE: self.table,
        }
        return head + b"".join(attribute(kind, value) for kind, value in given.items() if value)


class _Rule(NamedTuple):
    """What has the mark (0: all) is looked up in the table."""

    family: int
    preference: int
    table: int
    mark: int = 0

    def packed(self) -> bytes:
        head = _HEAD.pack(self.family, 0, 0, 0, self.table, 0, 0, _TO_TABLE, 0)
        given = {_PRIORITY: self.preference, _FWMARK: self.mark, _RULE_TABLE: self.table}
        return head + b"".join(attribute(kind, value) for kind, value in given.items())


def install(netns: NetnsFd, proc: Path = _PROC) -> None:
    """Put the rules, routes and the settings in place, where they are not yet. Raises NodeError.

    proc: a procfs that can be written to, which a container's own cannot.
    """
    _within(netns, lambda: None if present() else _install(proc))


def remove(netns: NetnsFd, proc: Path = _PROC) -> None:
    """Undo `install`, as far as it is done. Raises NodeError.

    The settings become 0, the kernel's default. A namespace that is gone needs none of this.
    """
    _within(netns, lambda: _remove(proc))


def installed(netns: NetnsFd) -> bool:
    """Whether all of it is in place. Raises NodeError."""
    try:
        return netns.run(present)
    except OSError as error:
        raise NodeError(f"routing in the pod's network namespace: {error}") from error


def present() -> bool:
    """Whether all of it is in place in the calling thread's namespace. Raises OSError."""
    settings = all(setting.read_text().strip() == "1" for setting in _settings(_PROC))
    return settings and all(
        _rules(family) == {_MARKED, _LOCAL} and all(_has(route) for route in _routes(family))
        for family in _families()
    )


def has_prefix(netns: NetnsFd) -> bool:
    """Whether lo has the prefix. Raises OSError."""
    return netns.run(lambda: socket.AF_INET6 in _families() and _has(_PREFIX_ROUTE))


def _within(netns: NetnsFd, action: Callable[[], None]) -> None:
    try:
        netns.run(action)
    except OSError as error:
        raise NodeError(f"routing in the pod's network namespace: {error}") from error


def _install(proc: Path) -> None:
    for family in _families():
        there = _rules(family)
        for route in _routes(family):
            netlink.change(ROUTE, _NEW_ROUTE, route.packed(), CREATE | REPLACE)
        for rule in (_marked(family), _local(family, _LOCAL)):
            if rule.preference not in there:
                _add(rule)
        if _KERNEL_LOCAL in there:
            _delete(_local(family, _KERNEL_LOCAL))
    _set(proc, "1")


def _remove(proc: Path) -> None:
    _set(proc, "0")
    for family in _families():
        there = _rules(family)
        if _KERNEL_LOCAL not in there:
            _add(_local(family, _KERNEL_LOCAL))
        for rule in (_local(family, _LOCAL), _marked(family)):
            if rule.preference in there:
                _delete(rule)
        for route in filter(_has, _routes(family)):
            netlink.change(ROUTE, _DEL_ROUTE, route.packed())


def _add(rule: _Rule) -> None:
    netlink.change(ROUTE, _NEW_RULE, rule.packed(), CREATE | EXCLUSIVE)


def _delete(rule: _Rule) -> None:
    netlink.change(ROUTE, _DEL_RULE, rule.packed())


def _set(proc: Path, value: str) -> None:
    for setting in _settings(proc):
        setting.write_text(value)


def _settings(proc: Path) -> list[Path]:
    """Those that there are: the kernel may be without IPv6."""
    return [setting for name in _SETTINGS if (setting := proc / name).exists()]


def _families() -> list[int]:
    """IPv6 takes part unless the kernel or the pod is without."""
    without = not _NO_IPV6.exists() or _NO_IPV6.read_text().strip() == "1"
    return [socket.AF_INET] if without else [socket.AF_INET, socket.AF_INET6]


def _rules(family: int) -> set[int]:
    """The preferences of our rules and of the kernel's for the local table."""
    ours = {(_MARKED, TABLE, MARK), (_LOCAL, _TABLE_LOCAL, 0), (_KERNEL_LOCAL, _TABLE_LOCAL, 0)}
    found = set()
    for rule in netlink.dump(netlink.ROUTE, _GET_RULE, _HEAD.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
        given = attributes(rule, _HEAD.size)
        preference, table, mark = (number(given.get(kind)) for kind in (_PRIORITY, _RULE_TABLE, _FWMARK))
        if (preference, table, mark) in ours:
            found.add(preference)
    return found


def _has(wanted: _Route) -> bool:
    """Whether the route is there."""
    request = _HEAD.pack(wanted.family, 0, 0, 0, wanted.table, 0, 0, 0, 0)
    try:
        routes = list(netlink.dump(netlink.ROUTE, _GET_ROUTE, request))
    except OSError as error:
        if error.errno == errno.ENOENT:  # no such table yet
            return False
        raise
    network = wanted.network
    length, address = (network.prefixlen, network.network_address.packed) if network else (0, None)
    for route in routes:
        head, given = _HEAD.unpack_from(route), attributes(route, _HEAD.size)
        found = (head[1], head[7], given.get(_DST), number(given.get(_OIF)))
        if found == (length, _TYPE_LOCAL, address, wanted.device):
            return True
    return False


def _marked(family: int) -> _Rule:
    return _Rule(family, _MARKED, TABLE, MARK)


def _local(family: int, preference: int) -> _Rule:
    return _Rule(family, preference, _TABLE_LOCAL)


def _routes(family: int) -> list[_Route]:
    """In the calling thread's namespace."""
    devices = [index for index, _ in socket.if_nameindex() if index != _LO]
    defaults = [_Route(family, TABLE, _LO)] + [
        _Route(family, TABLE, device, metric=_LESS + device) for device in devices
    ]
    return defaults if family == socket.AF_INET else [*defaults, _PREFIX_ROUTE]


# The source that connections to loopback have, whatever addresses the pod has besides.
_PREFIX_ROUTE = _Route(socket.AF_INET6, _TABLE_LOCAL, _LO, PREFIX, source=IPv6Address("::1").packed)
