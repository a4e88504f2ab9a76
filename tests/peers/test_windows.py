"""What our tunnel lets a peer send, and holds of it: a slow reader costs little and stops nobody else."""

import socket
from contextlib import ExitStack
from pathlib import Path

from hyperframe.frame import DataFrame, SettingsFrame

from tests.peers.stage import PORT, Servers, Stage
from tests.peers.streams import answered, carries, dialled, opened, serves, widen
from tests.support.http2 import PREFACE, WINDOW, Http2, exactly

BASE, MOST, MB = 16_375, 4 << 20, 1 << 20
NEAR = 16 * BASE


def resident(stage: Stage) -> int:
    """Bytes of memory of the tunnel's process."""
    return int(Path(f"/proc/{stage.tunnel.pid}/statm").read_text().split()[1]) * 4096


def test_a_window_grows_with_what_is_read(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """By a factor of two each time, to as much as so short a way needs."""
    stream, far = opened(stage, tunnel, application)
    with far:
        assert widen(tunnel, stream, far, NEAR) <= 5
        assert tunnel.room(stream) <= MOST


def test_what_was_sent_before_our_settings_were_known(stage: Stage, application: socket.socket) -> None:
    """Until then every stream has the window that HTTP/2 begins with (RFC 9113 section 6.9.2)."""
    with stage.client() as tunnel:
        tunnel.write(PREFACE)
        tunnel.send(SettingsFrame(0))
        stream = tunnel.connect(f"{stage.ours.v4}:{PORT}")
        tunnel.data(stream, b"e" * (1 << 14))
        tunnel.data(stream, b"e" * (1 << 14))
        tunnel.data(stream, b"e" * (WINDOW - (2 << 14)))
        far, _ = application.accept()
        with far:
            assert exactly(far, WINDOW) == b"e" * WINDOW
            assert tunnel.status(stream) == 200
            assert serves(stage, tunnel, application)


def test_streams_that_nobody_reads(
    stage: Stage, tunnel: Http2, application: socket.socket, apps: ExitStack
) -> None:
    """They cost little memory, others go on beside them, and who reads again gets all at once."""
    application.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    before = resident(stage)
    lazy = []
    for _ in range(100):
        stream, far = opened(stage, tunnel, application)
        lazy.append((apps.enter_context(far), tunnel.fill(stream)))
    assert resident(stage) - before < 24 * MB
    assert serves(stage, tunnel, application)
    for far, sent in lazy[:10]:
        assert exactly(far, sent) == b"f" * sent


def test_tunnel_without_a_window_is_avoided(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """A peer whose application stalls may give the whole tunnel no window: what is new takes another one."""
    app = dialled(stage, apps)
    stalled = servers.accept({SettingsFrame.INITIAL_WINDOW_SIZE: MB})
    stream = answered(stalled)
    app.sendall(b"s" * (2 * WINDOW))
    got = 0
    while got < WINDOW:
        got += len(stalled.read(DataFrame, stream).data)
    other = dialled(stage, apps)
    tunnel = servers.accept()
    assert carries(tunnel, answered(tunnel), other)
    stalled.window(0, WINDOW)
    while got < 2 * WINDOW:
        got += len(stalled.read(DataFrame, stream).data)
