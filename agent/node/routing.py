"""What a pod's network namespace must route for the tunnel to reach the pod's application.

The tunnel connects to the application from the client's own address. The connect hook marks such a connection
(`MARK`). Here is the rest, for IPv4 and IPv6 alike:

    50:  from all fwmark 0x5741 lookup 100      table 100: local default dev lo
    100: from all lookup local                  the kernel's own rule, moved from preference 0

so that it stays on lo, and is seen to come from there: `sk_lookup` sees the device of the route's result, and
with the local table first it would see the pod's eth0 and capture the connection once more. The application's
replies, to a client that is elsewhere, follow because `net.ipv4.tcp_fwmark_accept` (it is for both families)
gives the accepted socket the mark, and `fwmark_reflect` a reset of the kernel's where no application listens.

With `net.ipv4.tcp_migrate_req` (Linux 5.14, both families) a tunnel that ends leaves the connections that it
has not accepted to the one that listens beside it (SO_REUSEPORT); else the kernel would reset them.
"""

import errno
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.node import netlink
from agent.node.errors import NodeError
from agent.node.netlink import attributes, number
from agent.node.netns import NetnsFd

MARK = 0x5741  # MARK_DELIVERY of bpf/constants.h
TABLE = 100
_MARKED, _LOCAL, _KERNEL_LOCAL = 50, 100, 0  # preferences
_TABLE_LOCAL = 255
_TYPE_LOCAL = 2
_LO = 1
_GET_ROUTE, _GET_RULE = 26, 34
_HEAD = struct.Struct("=BBBBBBBBI")  # struct rtmsg, and struct fib_rule_hdr
_OIF, _PRIORITY, _FWMARK, _RULE_TABLE = 4, 6, 10, 15
_PROC = Path("/proc")
_SETTINGS = [
    "sys/net/ipv4/tcp_fwmark_accept",
    "sys/net/ipv4/fwmark_reflect",
    "sys/net/ipv4/tcp_migrate_req",
    "sys/net/ipv6/fwmark_reflect",
]
_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")


def install(netns: NetnsFd, proc: Path = _PROC) -> None:
    """Put the rules, routes and the settings in place, where they are not yet. Raises NodeError.

    proc: a procfs that can be written to, which a container's own cannot.
    """
    _within(netns, lambda: None if present() else _change(lambda route: _install(route, proc)))


def remove(netns: NetnsFd, proc: Path = _PROC) -> None:
    """Undo `install`, as far as it is done. Raises NodeError.

    The settings become 0, the kernel's default. A namespace that is gone needs none of this.
    """
    _within(netns, lambda: _change(lambda route: _remove(route, proc)))


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
        _rules(family) == {_MARKED, _LOCAL} and _has_default(family) for family in _families()
    )


def _within(netns: NetnsFd, action: Callable[[], None]) -> None:
    try:
        netns.run(action)
    except (NetlinkError, OSError) as error:
        raise NodeError(f"routing in the pod's network namespace: {error}") from error


def _change(action: Callable[[IPRoute], None]) -> None:
    """Only what changes something is worth the milliseconds that this socket takes to be made."""
    with IPRoute() as route:
        action(route)


def _install(route: IPRoute, proc: Path) -> None:
    for family in _families():
        there = _rules(family)
        route.route("replace", **_local_default(family))
        if _MARKED not in there:
            route.rule("add", **_marked(family))
        if _LOCAL not in there:
            route.rule("add", **_local(family, _LOCAL))
        if _KERNEL_LOCAL in there:
            route.rule("del", **_local(family, _KERNEL_LOCAL))
    _set(proc, "1")


def _remove(route: IPRoute, proc: Path) -> None:
    _set(proc, "0")
    for family in _families():
        there = _rules(family)
        if _KERNEL_LOCAL not in there:
            route.rule("add", **_local(family, _KERNEL_LOCAL))
        if _LOCAL in there:
            route.rule("del", **_local(family, _LOCAL))
        if _MARKED in there:
            route.rule("del", **_marked(family))
        if _has_default(family):
            route.route("del", **_local_default(family))


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


def _has_default(family: int) -> bool:
    request = _HEAD.pack(family, 0, 0, 0, TABLE, 0, 0, 0, 0)
    try:
        routes = list(netlink.dump(netlink.ROUTE, _GET_ROUTE, request))
    except OSError as error:
        if error.errno == errno.ENOENT:  # no such table yet
            return False
        raise
    return any(
        (_HEAD.unpack_from(route)[1], _HEAD.unpack_from(route)[7]) == (0, _TYPE_LOCAL)
        and number(attributes(route, _HEAD.size).get(_OIF)) == _LO
        for route in routes
    )


def _marked(family: int) -> dict[str, object]:
    return {"family": family, "priority": _MARKED, "table": TABLE, "action": "to_tbl", "fwmark": MARK}


def _local(family: int, preference: int) -> dict[str, object]:
    return {"family": family, "priority": preference, "table": _TABLE_LOCAL, "action": "to_tbl"}


def _local_default(family: int) -> dict[str, object]:
    return {"family": family, "dst": "default", "type": _TYPE_LOCAL, "scope": 254, "oif": _LO, "table": TABLE}
