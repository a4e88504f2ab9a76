"""What two ends of a connection do with each other."""

import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor

from tests.support.http2 import exactly
from tests.support.sockets import reset_on_close

_PIECE = os.urandom(1 << 20)


def greet(client: socket.socket, server: socket.socket) -> None:
    """Bytes both ways."""
    for one, other in ((client, server), (server, client)):
        one.sendall(b"hello")
        assert exactly(other, 5) == b"hello"


def half_close(client: socket.socket, server: socket.socket) -> None:
    """Each side ends on its own; the other goes on until it ends, too."""
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    greet_one_way(server, client)
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def greet_one_way(sender: socket.socket, receiver: socket.socket) -> None:
    sender.sendall(b"there?")
    assert exactly(receiver, 6) == b"there?"


def transfer(client: socket.socket, server: socket.socket, size: int) -> None:
    """`size` bytes each way at once, the same at both ends."""
    with ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(_send, sock, size) for sock in (client, server)]
        received = [threads.submit(_receive, sock, size) for sock in (server, client)]
        assert [each.result() for each in received] == [each.result() for each in sent]


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    reset_on_close(sock)
    sock.close()


def _send(sock: socket.socket, size: int) -> str:
    digest = hashlib.blake2b()
    for start in range(0, size, len(_PIECE)):
        piece = _PIECE[: size - start]
        sock.sendall(piece)
        digest.update(piece)
    return digest.hexdigest()


def _receive(sock: socket.socket, size: int) -> str:
    digest = hashlib.blake2b()
    while size:
        piece = sock.recv(min(size, 1 << 20))
        assert piece, f"{size} bytes are missing"
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()
