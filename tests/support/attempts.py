"""What connect() says, for processes that run inside pods."""

import errno
import socket
import time

from tests.support.sockets import Address, keep

_backlogs: list[socket.socket] = []


def attempt(address: Address, seconds: float = 20.0) -> tuple[str, float]:
    """The name of connect()'s error, empty if there is none, and the seconds that it took.

    "patience": it was still under way after `seconds`.
    """
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
        sock.settimeout(seconds)
        began = time.perf_counter()
        try:
            sock.connect(address)
        except TimeoutError:
            return "patience", time.perf_counter() - began
        except OSError as error:
            return errno.errorcode[error.errno or 0], time.perf_counter() - began
        return "", time.perf_counter() - began


def listen_v4(address: Address) -> int:
    """On an IPv4 address alone."""
    return keep(socket.create_server(address))


def listen_full(address: Address) -> int:
    """A server that is slow to accept: the kernel has no room for one more connection."""
    server = socket.create_server(address, backlog=0)
    first = socket.create_connection(address)
    _backlogs.append(first)
    return keep(server)
