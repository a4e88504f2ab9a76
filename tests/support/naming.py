"""Servers over TLS and WebSocket that tell their names, and their clients: they run in a Resident."""

import base64
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable

import websocket

Address = tuple[str, int]
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def serve_tls(port: int, name: str, chain: str, key: str) -> None:
    """Tells the name to whoever has shaken hands, in the background."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    def answer(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            secure.sendall(name.encode())
            secure.recv(1)  # the other side ends it

    _serve(port, answer)


def ask_tls(to: Address, sni: str) -> str:
    """Who answers; empty: the connection is ended before that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(to, timeout=20) as sock:
        try:
            with context.wrap_socket(sock, server_hostname=sni) as secure:
                return secure.recv(100).decode()
        except (ssl.SSLEOFError, ConnectionResetError):
            return ""


def serve_websocket(port: int) -> None:
    """Sends what it receives: short messages, one after the other (RFC 6455)."""

    def answer(sock: socket.socket) -> None:
        stream = sock.makefile("rb")
        lines = [line.partition(": ") for line in iter(lambda: stream.readline().strip().decode(), "")]
        fields = {name.lower(): value for name, _, value in lines}
        assert fields["upgrade"].lower() == "websocket"
        key = fields["sec-websocket-key"] + _GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        head.append(f"Sec-WebSocket-Accept: {accept}")
        sock.sendall("\r\n".join([*head, "", ""]).encode())
        while len(start := stream.read(2)) == 2:
            mask, length = stream.read(4), start[1] & 127
            text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream.read(length)))
            sock.sendall(bytes([start[0], length]) + text)

    _serve(port, answer)


def say(to: Address, host: str, path: str, words: list[str]) -> list[str]:
    """What comes back over one WebSocket."""
    connection = websocket.create_connection(f"ws://{to[0]}:{to[1]}{path}", timeout=20, host=host)
    try:
        return [str(_exchange(connection, word)) for word in words]
    finally:
        connection.close()


def _exchange(connection: websocket.WebSocket, word: str) -> str | bytes:
    connection.send(word)
    return connection.recv()


def _serve(port: int, answer: Callable[[socket.socket], None]) -> None:
    server = socket.create_server(("", port))
    threading.Thread(target=_accept, args=(server, answer), daemon=True).start()


def _accept(server: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    while True:
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
