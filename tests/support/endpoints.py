"""Servers outside of the mesh, by the standard library: they tell each client what they saw of it.

The functions run in a Resident. A client sends a line, or a request of HTTP/1.1, and gets a JSON object.
"""

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import Counter
from typing import Any, NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of PROXY protocol v2
_seen: Counter[int] = Counter()


class Encrypted(NamedTuple):
    """How a server speaks TLS: files in PEM, and by which CA clients have to prove themselves."""

    chain: str
    key: str
    clients: str = ""
    alpn: tuple[str, ...] = ()


def serve(port: int, encrypted: Encrypted | None = None, *, proxied: bool = False, name: str = "") -> None:
    """On all addresses, in the background. proxied: a PROXY header comes first."""
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=_accept, args=(listener, encrypted, proxied, name), daemon=True).start()


def connections(port: int) -> int:
    """How many a server has accepted."""
    return _seen[port]


def tunnel(port: int) -> None:
    """An HTTP proxy for CONNECT, on all addresses; it refuses what is not for port 8200."""
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=_proxy, args=(listener,), daemon=True).start()


def tell(to: tuple[str, int], text: str = "hello") -> dict[str, Any]:
    """As a client: sends a line, and gives what the server saw; `closed` or `refused` where it told nothing.

    Reset is refused: a destination that answered lately is connected to at once."""
    try:
        with socket.create_connection(to, timeout=20) as sock:
            sock.sendall(text.encode() + b"\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        return {"refused": True}
    except OSError as error:
        return {str(error.strerror): True}
    told: dict[str, Any] = json.loads(answer) if answer else {"closed": True}
    return told


def _accept(listener: socket.socket, encrypted: Encrypted | None, proxied: bool, name: str) -> None:
    context = _context(encrypted) if encrypted else None
    while True:
        client, _ = listener.accept()
        _seen[listener.getsockname()[1]] += 1
        threading.Thread(target=_serve, args=(client, context, proxied, name), daemon=True).start()


def _context(encrypted: Encrypted) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(encrypted.chain, encrypted.key)
    if encrypted.clients:
        context.load_verify_locations(encrypted.clients)
        context.verify_mode = ssl.CERT_REQUIRED
    if encrypted.alpn:
        context.set_alpn_protocols([*encrypted.alpn])

    def notice(sock: Any, server: str | None, _: ssl.SSLContext) -> None:
        sock.asked = server or ""

    context.sni_callback = notice
    return context


def _serve(client: socket.socket, context: ssl.SSLContext | None, proxied: bool, name: str) -> None:
    with contextlib.suppress(OSError), client:
        facts: dict[str, Any] = {"name": name}
        if proxied:
            facts["proxy"] = _proxy_header(client)
        if context is None:
            return _answer(client, facts)
        with context.wrap_socket(client, server_side=True) as sock:
            facts |= {
                "sni": getattr(sock, "asked", ""),
                "tls": sock.version(),
                "resumed": sock.session_reused,
            }
            facts["alpn"] = sock.selected_alpn_protocol()
            shown = sock.getpeercert() or {}
            names: tuple[Any, ...] = shown.get("subjectAltName", ())  # type: ignore[assignment]
            facts["client"] = [value for _, value in names]
            _answer(sock, facts)


def _answer(sock: socket.socket, facts: dict[str, Any]) -> None:
    while (first := _line(sock)) != b"":
        if b" HTTP/1.1" not in first:
            sock.sendall(json.dumps({**facts, "said": first.decode().strip()}).encode())
            if isinstance(sock, ssl.SSLSocket):
                sock.unwrap()
            return
        headers: dict[str, str] = {}
        while (line := _line(sock).strip()) != b"":
            field, _, value = line.decode().partition(":")
            headers[field.lower()] = value.strip()
        facts["host"] = headers.get("host", "")
        request = {"line": first.decode().strip(), "headers": headers}
        body = json.dumps({**facts, "labels": {"version": "v1"}, "request": request}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)


def _line(sock: socket.socket) -> bytes:
    """With its end; empty: there is none."""
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        line += byte
    return line


def _proxy_header(sock: socket.socket) -> str:
    beginning = sock.recv(12, socket.MSG_WAITALL)
    if beginning != SIGNATURE:
        return (beginning + _line(sock)).decode().strip()
    command, family, length = struct.unpack("!BBH", sock.recv(4, socket.MSG_WAITALL))
    addresses = sock.recv(length, socket.MSG_WAITALL)
    size = 4 if family == 0x11 else 16
    kind = socket.AF_INET if family == 0x11 else socket.AF_INET6
    source, target = (socket.inet_ntop(kind, addresses[at : at + size]) for at in (0, size))
    ports = struct.unpack("!HH", addresses[2 * size :])
    return f"v2 {command:#x} {source} {target} {ports[0]} {ports[1]}"


def _proxy(listener: socket.socket) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_tunnelled, args=(client,), daemon=True).start()


def _tunnelled(client: socket.socket) -> None:
    with contextlib.suppress(OSError), client:
        request = _line(client).decode()
        while _line(client).strip():
            pass
        host, _, port = request.split(" ")[1].rpartition(":")
        if port != "8200":
            client.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        _answer(client, {"name": "proxy", "host": host})
