"""What clients have in common."""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.behaving.behaviour import TIME, Place, Report, name_of


@contextlib.contextmanager
def made(place: Place, protocol: int = socket.IPPROTO_TCP) -> Iterator[socket.socket]:
    with socket.socket(place.family, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(TIME)
        yield sock


@contextlib.contextmanager
def connected(place: Place) -> Iterator[socket.socket]:
    with made(place) as sock:
        sock.connect(place.to)
        yield sock


def exactly(sock: socket.socket, size: int) -> bytes:
    """That many bytes; fewer at the end."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def carries(sock: socket.socket) -> Report:
    """Over a server that echoes."""
    sock.sendall(b"hello")
    return [exactly(sock, 5)]


def names(sock: socket.socket, place: Place) -> Report:
    return [place.whose(sock.getpeername()), place.whose(sock.getsockname())]


def option(sock: socket.socket, name: int, level: int = socket.SOL_SOCKET) -> int:
    return sock.getsockopt(level, name)


def state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def becomes(sock: socket.socket, states: set[int]) -> int:
    """The state in which it is when it is one of these, else after a while."""
    poll = select.poll()
    for _ in range(500):
        if (now := state(sock)) in states:
            break
        poll.poll(10)
    return now


def events(sock: socket.socket, wanted: int) -> list[str]:
    poll = select.poll()
    poll.register(sock, wanted)
    found = sum(mask for _, mask in poll.poll(TIME * 1000))
    return [
        name
        for name in ("POLLIN", "POLLOUT", "POLLERR", "POLLHUP", "POLLRDHUP")
        if found & getattr(select, name)
    ]


def attempt(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except OSError as error:
        return name_of(error)
