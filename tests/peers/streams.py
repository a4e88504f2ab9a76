"""Streams of a tunnel, seen frame by frame at one end and as sockets at the other."""

import socket
from contextlib import ExitStack

from tests.peers.stage import PORT, Stage
from tests.support.http2 import Http2, exactly

OK = [(":status", "200")]
FRAME = 1 << 20  # the largest one that we take


def opened(stage: Stage, tunnel: Http2, application: socket.socket) -> tuple[int, socket.socket]:
    """A stream, and its other end."""
    stream = tunnel.connect(f"{stage.ours.v4}:{PORT}")
    assert tunnel.status(stream) == 200
    sock, _ = application.accept()
    sock.settimeout(10)
    return stream, sock


def serves(stage: Stage, tunnel: Http2, application: socket.socket) -> bool:
    """Whether the tunnel carries one more stream, both ways."""
    stream, far = opened(stage, tunnel, application)
    with far:
        tunnel.data(stream, b"ping", end=True)
        far.sendall(b"pong")
        far.shutdown(socket.SHUT_WR)
        return far.recv(4) == b"ping" and tunnel.payload(stream, 4) == b"pong" and tunnel.ended(stream)


def dialled(stage: Stage, apps: ExitStack) -> socket.socket:
    return apps.enter_context(stage.dial(PORT))


def answered(tunnel: Http2) -> int:
    """The number of the next stream that is asked for, with a yes to it."""
    stream, _ = tunnel.read_headers()
    tunnel.send(tunnel.headers(stream, OK))
    return stream


def carries(tunnel: Http2, stream: int, app: socket.socket) -> bool:
    """Bytes both ways."""
    app.sendall(b"ping")
    tunnel.data(stream, b"pong")
    return tunnel.payload(stream, 4) == b"ping" and exactly(app, 4) == b"pong"


def widen(tunnel: Http2, stream: int, far: socket.socket, size: int) -> int:
    """Use a stream's window until it is at least so large; how often it had to be used up."""
    times = 0
    while tunnel.alive() and (room := tunnel.room(stream)) < size:
        for start in range(0, room, FRAME):
            piece = b"w" * min(FRAME, room - start)
            tunnel.data(stream, piece)
            assert exactly(far, len(piece)) == piece
        times += 1
        assert times < 50, f"a window of {room} does not grow"
    return times
