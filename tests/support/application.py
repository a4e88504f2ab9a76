"""An application in a pod, which knows of no mesh. Its functions run in a Resident."""

import contextlib
import ctypes
import json
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

IPPROTO_MPTCP = 262
MPTCP = Path("/proc/sys/net/mptcp").exists()  # not in Debian's 5.10
_SO_BINDTODEVICE = 25
_MSG_FASTOPEN = 0x20000000

Address = tuple[str, int]


@dataclass(frozen=True)
class Call:
    """How to call a server."""

    to: Address
    family: int = 0  # 0: that of the address
    protocol: int = socket.IPPROTO_TCP
    bind: Address | None = None
    device: str = ""
    mark: int = 0
    fast_open: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a call: `error` is an errno, 0 when a server answered with its name, and whom it saw."""

    error: int
    server: str = ""
    client: Address = ("", 0)  # as the server sees it
    peer: Address = ("", 0)  # getpeername
    local: Address = ("", 0)  # getsockname


_listeners: list[socket.socket] = []


def serve(name: str, port: int) -> None:
    """Listen on all addresses; tell each client the name and the client's address, then echo."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(1024)
    _listeners.append(listener)
    threading.Thread(target=_accept, args=(listener, name), daemon=True).start()


def call(how: Call) -> Outcome:
    """Connect, and read what the server says first."""
    family = how.family or (socket.AF_INET6 if ":" in how.to[0] else socket.AF_INET)
    sock = socket.socket(family, socket.SOCK_STREAM, how.protocol)
    with sock:
        sock.settimeout(5)
        try:
            return _called(sock, how)
        except OSError as error:
            return Outcome(error.errno or -1)


def calls(to: Address, number: int, payload: bytes = b"") -> list[int]:
    """That many connections in turn, each closed as soon as it has sent; the errors, 0 for none."""
    return [_short(to, payload) for _ in range(number)]


def calls_from(port: int, to: list[Address]) -> list[Address]:
    """A connection to each from one port of ours, all open at the same time: the peers that they have."""
    with contextlib.ExitStack() as exits:
        peers = []
        for one in to:
            sock = exits.enter_context(socket.socket(socket.AF_INET6 if ":" in one[0] else socket.AF_INET))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(5)
            sock.bind(("", port))
            sock.connect(one)
            assert sock.recv(1)
            peers.append(_plain(sock.getpeername()))
        return peers


def calls_at_once(to: list[Address], number: int) -> list[int]:
    """That many connections to each, all open at the same time: how many there could be."""
    with contextlib.ExitStack() as exits:
        opened = []
        for one in to:
            opened.append(0)
            for _ in range(number):
                sock = exits.enter_context(
                    socket.socket(socket.AF_INET6 if ":" in one[0] else socket.AF_INET)
                )
                with contextlib.suppress(OSError):
                    sock.connect(one)
                    opened[-1] += 1
        return opened


def reconnect(first: Address, second: Address) -> Address:
    """Connect, disconnect (AF_UNSPEC), connect elsewhere with the same socket: the peer that it has then."""
    sock = socket.socket()
    with sock:
        sock.connect(first)
        unspecified = bytes(16)
        assert ctypes.CDLL(None).connect(sock.fileno(), unspecified, len(unspecified)) == 0
        sock.connect(second)
        return _plain(sock.getpeername())


def udp(to: Address) -> Address:
    """The peer of a connected UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(to)
        return _plain(sock.getpeername())


def bind(port: int) -> None:
    """Listen on a port for a moment."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
        sock.listen()


@dataclass
class _Loop:
    """Clients that call again and again, and what came of it."""

    outcomes: list[Outcome] = field(default_factory=list)
    running: bool = True
    threads: list[threading.Thread] = field(default_factory=list)


_loop = _Loop()


def start_calling(how: Call, clients: int) -> None:
    """Call from `clients` threads without a pause, until `stop_calling`."""

    def again() -> None:
        while _loop.running:
            _loop.outcomes.append(call(how))

    _loop.outcomes, _loop.running = [], True
    _loop.threads = [threading.Thread(target=again) for _ in range(clients)]
    for thread in _loop.threads:
        thread.start()


def called() -> int:
    """How many calls there were until now."""
    return len(_loop.outcomes)


def stop_calling() -> list[Outcome]:
    _loop.running = False
    for thread in _loop.threads:
        thread.join()
    return _loop.outcomes


def _called(sock: socket.socket, how: Call) -> Outcome:
    if how.device:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, how.device.encode())
    if how.mark:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, how.mark)
    if how.bind:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(how.bind)
    if how.fast_open:
        sock.settimeout(None)  # without a cookie a socket that does not block would only begin to connect
        sock.sendto(b"early", _MSG_FASTOPEN, how.to)
        sock.settimeout(5)
    else:
        sock.connect(how.to)
    peer, local = _plain(sock.getpeername()), _plain(sock.getsockname())
    with sock.makefile() as lines:
        line = lines.readline()
    if not line:
        return Outcome(-1, peer=peer, local=local)
    if not line.startswith("{"):
        return Outcome(0, line.strip(), peer=peer, local=local)
    said = json.loads(line)
    return Outcome(0, said["name"], tuple(said["client"]), peer, local)


def _short(to: Address, payload: bytes) -> int:
    try:
        with socket.create_connection(to, timeout=5) as sock:
            sock.sendall(payload)
        return 0
    except OSError as error:
        return error.errno or -1


def _accept(listener: socket.socket, name: str) -> None:
    while True:
        client, address = listener.accept()
        threading.Thread(target=_answer, args=(client, address, name), daemon=True).start()


def _answer(client: socket.socket, address: Address, name: str) -> None:
    with client, contextlib.suppress(OSError):
        client.sendall(json.dumps({"name": name, "client": _plain(address)}).encode() + b"\n")
        while data := client.recv(1 << 16):
            client.sendall(data)


def _plain(address: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return address[0].removeprefix("::ffff:"), address[1]


_kept: list[socket.socket] = []


def open_echo(to: Address) -> None:
    """Open a connection that stays."""
    sock = socket.create_connection(to, timeout=5)
    _kept.append(sock)
    sock.makefile("rb", buffering=0).readline()


def echo(payload: bytes) -> bytes:
    """Through the connection that stays."""
    _kept[-1].sendall(payload)
    return _kept[-1].recv(len(payload), socket.MSG_WAITALL)


def close_echo() -> None:
    """Close the connection that stays."""
    _kept.pop().close()
