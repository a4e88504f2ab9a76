"""A behaviour is what its client does; what it gives is its report. Its server accepts one connection, and
reports as well. Addresses are told as whose they are, so that reports can be compared.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Address = tuple[str, int]
Report = list[Any]
Handler = Callable[[socket.socket], Report]

MPTCP = 262
TIME = 10.0  # seconds


@dataclass(frozen=True)
class Place:
    """Where the client finds the server, and where it is itself."""

    server: str
    client: str
    port: int

    @property
    def to(self) -> Address:
        return self.server, self.port

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.server else socket.AF_INET

    def whose(self, address: Any) -> str:
        """An address as the one whose it is; the server's port is told, the client's is not."""
        ip, port = str(address[0]), address[1]
        mapped = "mapped " if ip.startswith("::ffff:") else ""
        names = {self.server: "server", self.client: "client"}
        name = names.get(ip.removeprefix("::ffff:"), ip)
        return f"{mapped}{name}:{port if name == 'server' else 'its port' if port else 0}"


@dataclass
class Behaviour:
    """What follows `server` is the listener's; `dual`: of both families, `bare`: nobody connects to it."""

    client: Callable[[Place], Report]
    server: Handler
    options: list[tuple[int, int, int]] = field(default_factory=list)
    device: str = ""
    protocol: int = socket.IPPROTO_TCP
    own_address: bool = False
    dual: bool = False
    bare: bool = False


TABLE: dict[str, Behaviour] = {}


def behaviour(server: Handler, **more: Any) -> Callable[[Callable[[Place], Report]], None]:
    def add(client: Callable[[Place], Report]) -> None:
        TABLE[client.__name__] = Behaviour(client, server, **more)

    return add


_listeners: dict[int, socket.socket] = {}


def prepare(name: str, place: Place) -> None:
    """Listen as the behaviour's server does."""
    how = TABLE[name]
    family = socket.AF_INET6 if how.dual else place.family
    any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
    listener = socket.socket(family, socket.SOCK_STREAM, how.protocol)
    listener.settimeout(TIME)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option in how.options:
        listener.setsockopt(*option)
    if how.device:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, how.device.encode())
    listener.bind((place.server if how.own_address else any_address, place.port))
    listener.listen(512)
    _listeners[place.port] = listener


def serve(name: str, place: Place) -> Report:
    """Accept one connection; what the server sees of it."""
    return [] if TABLE[name].bare else _reported(lambda: _served(name, place))


def _served(name: str, place: Place) -> Report:
    sock, address = _listeners[place.port].accept()
    with sock:
        sock.settimeout(TIME)
        return [place.whose(address), *_reported(lambda: TABLE[name].server(sock))]


def finish(place: Place) -> None:
    """Listen no more."""
    _listeners.pop(place.port).close()


def call(name: str, place: Place) -> Report:
    """What the client sees."""
    return _reported(lambda: TABLE[name].client(place))


def _reported(act: Callable[[], Report]) -> Report:
    try:
        return act()
    except OSError as error:
        return [name_of(error)]


def name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
