"""Two applications that talk. The functions run in a Resident of each one's pod."""

import contextlib
import socket
import threading

_PATIENCE = 20.0  # seconds for an answer
_open: list[socket.socket] = []


def serve_echo(port: int) -> None:
    """Send back what comes, on each connection."""
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionResetError):
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def open_connection(to: tuple[str, int]) -> None:
    """Open one that stays."""
    _open.append(socket.create_connection(to, _PATIENCE))


def exchange_on_open() -> None:
    """Send something on the one that stays, and get it back. Raises OSError."""
    _exchange(_open[0])


def exchange(to: tuple[str, int]) -> None:
    """Send something on a new connection, and get it back. Raises OSError."""
    with socket.create_connection(to, _PATIENCE) as connection:
        _exchange(connection)


def _exchange(connection: socket.socket) -> None:
    connection.sendall(b"there")
    back = connection.recv(100)
    if back != b"there":
        raise OSError(f"{back!r} came back")
