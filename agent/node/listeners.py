"""Who listens on the tunnel's ports in a pod: read from the kernel (sock_diag), by the sockets' cgroups."""

import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from agent.node import netlink
from agent.node.netlink import attributes, number

_BY_FAMILY = 20
_STATE_LISTEN = 10
_CONNECTED = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))  # tcp_states.h: not TIME_WAIT, CLOSE, LISTEN
_CGROUP_ID = 21  # INET_DIAG_CGROUP_ID, Linux 5.8
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2 with an empty socket id
_HEAD = struct.Struct("=BBBBHH16x16xIQ20x")  # struct inet_diag_msg


@dataclass(frozen=True)
class Listener:
    """`cookie` is the kernel's number of the socket, never given twice; `cgroup` is an id."""

    port: int
    cookie: int
    cgroup: int


def listeners() -> list[Listener]:
    """All TCP listeners of the calling thread's namespace. Raises OSError, ENOENT without tcp_diag."""
    return list(_sockets(1 << _STATE_LISTEN))


def carries(cgroups: Collection[int]) -> bool:
    """Whether processes of these cgroups have TCP connections there. Raises OSError."""
    return any(one.cgroup in cgroups for one in _sockets(_CONNECTED))


def _sockets(states: int) -> Iterator[Listener]:
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states)
        for message in netlink.dump(netlink.SOCK_DIAG, _BY_FAMILY, request):
            _, _, _, _, port, _, _, cookie = _HEAD.unpack_from(message)
            cgroup = number(attributes(message, _HEAD.size).get(_CGROUP_ID))
            yield Listener(socket.ntohs(port), cookie, cgroup)
