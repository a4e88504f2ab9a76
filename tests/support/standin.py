"""A stand-in for the tunnel: what it does at its sockets, without mutual TLS. It runs in a Resident.

It relays what the pods' applications send to where they wanted it, delivers what arrives from the client's
own address, and writes down what it saw. Like the tunnel it is in its cgroup before it makes a socket.
"""

import contextlib
import itertools
import socket
import struct
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent.node.netns import NetnsFd

OUTBOUND, INBOUND, HBONE = 15001, 15006, 15008
_IP_TRANSPARENT, _IPV6_TRANSPARENT, _ORIGINAL_DST = 19, 75, 80
_SOL_IPV6 = 41

Address = tuple[str, int]
_ports = itertools.cycle(range(16385, 32768, 2))


@dataclass(frozen=True)
class Seen:
    """A connection at the listener of `port`. `wanted`: where to; None when nobody redirected it."""

    port: int
    peer: Address
    wanted: Address | None


@dataclass
class _Held:
    seen: list[Seen] = field(default_factory=list)
    listeners: list[socket.socket] = field(default_factory=list)
    relays: set[socket.socket] = field(default_factory=set)


_held = _Held()


def adopt(path: Path, name: str = "tunnel", reuse: bool = False) -> None:
    """Listen in the pod's namespace, on the three ports; `name` is what the HBONE port answers with.

    With `reuse` another process may listen there too (SO_REUSEPORT).
    """
    netns = NetnsFd.open(path)
    for port in (OUTBOUND, INBOUND, HBONE):
        listener = netns.run(partial(_listen, port, reuse))
        _held.listeners.append(listener)
        threading.Thread(target=_accept, args=(listener, port, netns, name), daemon=True).start()


def leave() -> None:
    """Listen no more, anywhere; relays go on."""
    for listener in _held.listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    _held.listeners.clear()


def seen() -> list[Seen]:
    """All connections since the last call."""
    connections, _held.seen = _held.seen, []
    return connections


def idle() -> bool:
    """Whether all that was accepted is over."""
    return not _held.relays


def connect_from(path: Path, address: Address, mark: int) -> int:
    """Connect in the pod's namespace, with a mark set before; the mark that the socket has then."""

    def connect() -> int:
        with _make(address[0]) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            with contextlib.suppress(ConnectionRefusedError):
                sock.connect(address)
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)

    return NetnsFd.open(path).run(connect)


def _accept(listener: socket.socket, port: int, netns: NetnsFd, name: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, peer = listener.accept()
            _held.relays.add(client)
            threading.Thread(target=_serve, args=(client, peer, port, netns, name), daemon=True).start()


def _serve(client: socket.socket, peer: Address, port: int, netns: NetnsFd, name: str) -> None:
    source = _plain(peer)
    wanted = _original(client) if port == OUTBOUND else _plain(client.getsockname())
    _held.seen.append(Seen(port, source, wanted))
    with contextlib.suppress(OSError):
        if port == HBONE:
            client.sendall(f"{name}\n".encode())
        elif wanted is not None:
            _relay(client, netns.run(lambda: _connect(wanted, source[0] if port == INBOUND else None)))
    client.close()
    _held.relays.discard(client)


def _connect(to: Address, source: str | None) -> socket.socket:
    sock = _make(to[0])
    if source:
        level, option = (_SOL_IPV6, _IPV6_TRANSPARENT) if ":" in source else (socket.SOL_IP, _IP_TRANSPARENT)
        sock.setsockopt(level, option, 1)
        # A port that no client chooses, as the tunnel does it (`try_connect` in tunnel/src/proxy/inbound.rs):
        # the kernel would take this connection for the client's own one, were their ports the same.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, next(_ports)))
    sock.settimeout(5)
    sock.connect(to)
    sock.settimeout(None)
    return sock


def _make(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)


def _relay(left: socket.socket, right: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(right, left), daemon=True)
    back.start()
    _pump(left, right)
    back.join()
    right.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # a reset ends both directions
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _listen(port: int, reuse: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse))
    listener.setsockopt(_SOL_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(1024)
    return listener


def _original(client: socket.socket) -> Address | None:
    """SO_ORIGINAL_DST as it is asked under netfilter: for IPv4 first, then for IPv6."""
    with contextlib.suppress(OSError):
        _, port, packed = struct.unpack("!HH4s8x", client.getsockopt(socket.SOL_IP, _ORIGINAL_DST, 16))
        return socket.inet_ntop(socket.AF_INET, packed), port
    with contextlib.suppress(OSError):
        _, port, packed = struct.unpack("!HHxxxx16sxxxx", client.getsockopt(_SOL_IPV6, _ORIGINAL_DST, 28))
        return socket.inet_ntop(socket.AF_INET6, packed), port
    return None


def _plain(address: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """Without the v4-mapped form that an IPv6 listener shows IPv4 in."""
    return address[0].removeprefix("::ffff:"), address[1]
