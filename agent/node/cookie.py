"""The cookie of the calling thread's network namespace: its number, by which the kernel's programs know it.

Linux 5.14 tells it of a socket. Before, only a program can ask: one on this process' own cgroup keeps the
answer on each UDP socket that is bound.
"""

import errno
import functools
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from agent.node.errors import NodeError
from agent.node.own_cgroup import PROC, namespace_mount, relative_cgroup
from bpf.errors import BpfError
from bpf.maps import Link, Map
from bpf.programs import COOKIE, Object

SO_NETNS_COOKIE = 71
_PROGRAM = "cookie"


class _Asked(NamedTuple):
    """Attached for as long as this process lives."""

    link: Link
    cookies: Map


def cookie() -> int:
    """Raises NodeError where neither way is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            raw = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise NodeError(f"SO_NETNS_COOKIE: {error.strerror}") from error
            raw = by_program(any_socket)
    return int(struct.unpack("=Q", raw)[0])


def by_program(udp: socket.socket) -> bytes:
    """What the program keeps on a socket of this process, which is bound for it. Raises NodeError."""
    cookies = _attached().cookies
    udp.bind(("0.0.0.0", 0))
    kept = cookies.get(struct.pack("=i", udp.fileno()))
    if kept is None:
        raise NodeError(
            "this process has left the cgroup in which it asked for a netns cookie: start it again"
        )
    return kept


@functools.cache
def _attached() -> _Asked:
    try:
        program = Object(COOKIE)
        program.load()
        target = os.open(own_cgroup(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            link = Link.create(program.program(_PROGRAM), target, program.attach_type(_PROGRAM))
        finally:
            os.close(target)
    except (BpfError, OSError) as error:
        raise NodeError(f"no program can be told netns cookies (Linux 5.7 tells it): {error}") from error
    return _Asked(link, program.map("cookies"))


def own_cgroup(proc: Path = PROC) -> Path:
    """Raises NodeError without cgroup v2, or in its root, where a program concerns the whole machine."""
    mount = namespace_mount(proc)
    path = mount and mount / relative_cgroup("self", proc)
    if path and (path / "cgroup.type").exists():  # which the root has not
        return path
    raise NodeError("this process is in no cgroup v2 of its own: start it in one (Linux 5.14 needs none)")
