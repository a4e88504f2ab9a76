"""Servers that our tunnel calls and that want no more streams: the next ones go elsewhere."""

import socket
from contextlib import ExitStack

import pytest
from hyperframe.frame import (
    Frame,
    GoAwayFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.peers.stage import Servers, Stage, is_reset
from tests.peers.streams import answered, carries, dialled
from tests.support.http2 import (
    CANCEL,
    REFUSED_STREAM,
    Closed,
)

STREAMS, INITIAL_WINDOW = SettingsFrame.MAX_CONCURRENT_STREAMS, SettingsFrame.INITIAL_WINDOW_SIZE


def test_goodbye_before_the_answer(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """The request was not looked at: it is put again in a new tunnel, and the application notices nothing."""
    app = dialled(stage, apps)
    app.sendall(b"early")
    first = servers.accept()
    first.read_headers()
    first.send(GoAwayFrame(0, last_stream_id=0))
    second = servers.accept()
    stream = answered(second)
    assert second.payload(stream, 5) == b"early"
    assert carries(second, stream, app)


def test_stream_that_is_refused(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """REFUSED_STREAM: not looked at either (RFC 9113 section 8.7)."""
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream, _ = tunnel.read_headers()
    tunnel.send(RstStreamFrame(stream, REFUSED_STREAM))
    stream = answered(tunnel)
    assert stream == 3
    assert carries(tunnel, stream, app)


def test_streams_that_are_always_refused(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """It ends: three times is enough."""
    with stage.refusal("source", "tunnel_lost"):
        app = dialled(stage, apps)
        tunnel = servers.accept()
        for _ in range(3):
            stream, _ = tunnel.read_headers()
            tunnel.send(RstStreamFrame(stream, REFUSED_STREAM))
        assert is_reset(app)
    assert tunnel.alive()


def test_goodbye_within_a_stream(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """What is open goes on to its end; what is new goes elsewhere; then the old tunnel ends."""
    app = dialled(stage, apps)
    old = servers.accept()
    stream = answered(old)
    old.send(GoAwayFrame(0, last_stream_id=stream))
    assert carries(old, stream, app)
    other = dialled(stage, apps)
    new = servers.accept()
    assert carries(new, answered(new), other)
    assert carries(old, stream, app)
    old.data(stream, b"", end=True)
    app.shutdown(socket.SHUT_WR)
    assert old.ended(stream)
    with pytest.raises(Closed):
        while True:
            old.read(Frame)


def test_goodbye_in_two_steps(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """As a graceful server does it: first the largest number there is, then the last that it has served."""
    app = dialled(stage, apps)
    old = servers.accept()
    stream = answered(old)
    old.send(GoAwayFrame(0, last_stream_id=(1 << 31) - 1), PingFrame(0, b"the rest"))
    assert old.alive()
    old.send(GoAwayFrame(0, last_stream_id=stream))
    assert carries(old, stream, app)
    other = dialled(stage, apps)
    new = servers.accept()
    assert carries(new, answered(new), other)


def test_tunnel_that_is_idle_and_dies(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """The server is gone without a word: the next connection makes a new tunnel."""
    app = dialled(stage, apps)
    old = servers.accept()
    stream = answered(old)
    old.data(stream, b"", end=True)
    app.close()
    assert old.ended(stream)
    old.close()
    other = dialled(stage, apps)
    new = servers.accept()
    assert carries(new, answered(new), other)


def test_stream_that_is_reset_instead_of_answered(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """It is over: a tunnel of one stream has room for another."""
    with stage.refusal("source", "peer_reset"):
        app = dialled(stage, apps)
        tunnel = servers.accept({STREAMS: 1})
        stream, _ = tunnel.read_headers()
        tunnel.send(RstStreamFrame(stream, CANCEL))
        assert is_reset(app)
    other = dialled(stage, apps)
    assert carries(tunnel, answered(tunnel), other)


@pytest.mark.parametrize("again", [False, True], ids=["said once", "and not repeated"])
def test_one_stream_a_tunnel(stage: Stage, servers: Servers, apps: ExitStack, again: bool) -> None:
    """MAX_CONCURRENT_STREAMS of 1: more tunnels, and one that has become free is used again.

    SETTINGS that name other things only leave the limit as it is (RFC 9113 section 6.5.3).
    """
    tunnels = []
    for _ in range(3):
        app = dialled(stage, apps)
        tunnel = servers.accept({STREAMS: 1})
        if again:
            tunnel.send(SettingsFrame(0, settings={INITIAL_WINDOW: 1 << 20}))
        stream = answered(tunnel)
        assert carries(tunnel, stream, app)
        tunnels.append((tunnel, stream, app))
    tunnel, stream, app = tunnels[1]
    app.shutdown(socket.SHUT_WR)
    assert tunnel.ended(stream)
    tunnel.data(stream, b"", end=True)
    assert tunnel.alive()
    app = dialled(stage, apps)
    assert carries(tunnel, answered(tunnel), app)


def test_many_streams_share_a_tunnel(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    first = dialled(stage, apps)
    tunnel = servers.accept()
    streams = [(answered(tunnel), first)]
    for _ in range(50):
        app = dialled(stage, apps)
        streams.append((answered(tunnel), app))
    for stream, app in reversed(streams):
        assert carries(tunnel, stream, app)
