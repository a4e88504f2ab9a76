"""Servers that our tunnel calls and that use HTTP/2 as few do, or wrongly."""

import re
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.peers.exchange import reset
from tests.peers.stage import OURS, PORT, Servers, Stage, is_reset
from tests.peers.streams import OK, answered, carries, dialled
from tests.support.http2 import (
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    WINDOW,
    Http2,
    exactly,
    raw,
)

INITIAL_WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE


def test_what_we_say_first(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    dialled(stage, apps)
    tunnel = servers.accept()
    stream, fields = tunnel.read_headers()
    assert tunnel.sock.version() == "TLSv1.3"  # type: ignore[attr-defined]
    assert tunnel.sock.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]
    assert tunnel.settings == {
        SettingsFrame.ENABLE_PUSH: 0,
        INITIAL_WINDOW: 16_375,  # a record of ours
        SettingsFrame.MAX_FRAME_SIZE: 1 << 20,
        SettingsFrame.MAX_HEADER_LIST_SIZE: 64 << 10,
    }
    assert tunnel.read(WindowUpdateFrame, 0).window_increment == (16 << 20) - WINDOW
    assert stream == 1
    assert fields[:2] == [(":method", "CONNECT"), (":authority", f"{stage.peer.v4}:{PORT}")]
    more = dict(fields[2:])
    assert more.keys() == {"baggage", "forwarded", "traceparent"}
    assert {"k8s.cluster.name=Kubernetes", "k8s.namespace.name=demo"} <= set(more["baggage"].split(","))
    assert re.fullmatch(rf'for="{stage.ours.v4}:\d+"', more["forwarded"])
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", more["traceparent"])


def test_who_we_are(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    dialled(stage, apps)
    certificate = servers.tls().getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("URI", OURS),)
    assert certificate["subject"] == ()


def test_nothing_is_sent_before_the_answer(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """What the application says before the request goes along with it, what it says afterwards waits."""
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream, _ = tunnel.read_headers()
    app.sendall(b"ping")
    assert tunnel.alive()
    assert not tunnel.kept(DataFrame)
    tunnel.send(tunnel.headers(stream, OK))
    assert tunnel.payload(stream, 4) == b"ping"


def test_answer_in_pieces(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """Padded, with fields that nobody asked for, continued byte by byte, and with data right behind it."""
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream, _ = tunnel.read_headers()
    whole = tunnel.headers(stream, [*OK, ("baggage", "k8s.cluster.name=x"), ("server", "envoy" * 100)])
    first = HeadersFrame(stream, whole.data[:1], flags=["PADDED", "PRIORITY"], pad_length=9)
    rest = [ContinuationFrame(stream, bytes([byte])) for byte in whole.data[1:]]
    rest[-1].flags.add("END_HEADERS")
    tunnel.send(first, *rest, DataFrame(stream, b"pong", flags=["PADDED"], pad_length=99))
    assert exactly(app, 4) == b"pong"
    assert tunnel.alive()


def test_interim_answer(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """RFC 9110 section 15.2: a client must be able to parse 1xx, even if it does not expect it."""
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream, _ = tunnel.read_headers()
    tunnel.send(tunnel.headers(stream, [(":status", "103")]))
    assert tunnel.alive()
    tunnel.send(tunnel.headers(stream, OK))
    assert carries(tunnel, stream, app)


def test_server_ends_first(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    tunnel.data(stream, b"pong", end=True)
    assert exactly(app, 4) == b"pong"
    assert app.recv(1) == b""
    app.sendall(b"ping")
    assert tunnel.payload(stream, 4) == b"ping"
    app.shutdown(socket.SHUT_WR)
    assert tunnel.ended(stream)


def test_application_ends_first(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    app.shutdown(socket.SHUT_WR)
    assert tunnel.ended(stream)
    tunnel.data(stream, b"pong", end=True)
    assert exactly(app, 4) == b"pong"
    assert app.recv(1) == b""


def test_reset_reaches_the_application(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    assert carries(tunnel, stream, app)
    with stage.refusal("source", "peer_reset"):
        tunnel.send(RstStreamFrame(stream, CONNECT_ERROR))
        assert is_reset(app)


def test_applications_reset_reaches_the_server(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    assert carries(tunnel, stream, app)
    with stage.refusal("source", "app_reset"):
        reset(app)
        assert tunnel.read(RstStreamFrame, stream).error_code == CONNECT_ERROR


def test_answer_that_is_reset(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    with stage.refusal("source", "peer_reset"):
        app = dialled(stage, apps)
        tunnel = servers.accept()
        stream, _ = tunnel.read_headers()
        tunnel.send(RstStreamFrame(stream, CONNECT_ERROR))
        assert is_reset(app)


# ---- windows


def test_small_initial_window(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept({INITIAL_WINDOW: 10})
    stream = answered(tunnel)
    app.sendall(bytes(range(100)))
    got = tunnel.read(DataFrame, stream).data
    while len(got) < 100:
        assert len(got) % 10 == 0
        assert tunnel.alive()
        assert not tunnel.kept(DataFrame), "more than was allowed"
        tunnel.window(stream, 10)
        got += tunnel.read(DataFrame, stream).data
    assert got == bytes(range(100))


def test_window_that_shrinks_below_nothing(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept({INITIAL_WINDOW: 1000})
    stream = answered(tunnel)
    app.sendall(b"x" * 1000)
    got = 0
    while got < 1000:
        got += len(tunnel.read(DataFrame, stream).data)
    tunnel.send(SettingsFrame(0, settings={INITIAL_WINDOW: 0}))
    app.sendall(b"y" * 10)
    tunnel.window(stream, 1000)  # 0 again
    assert tunnel.alive()
    assert not tunnel.kept(DataFrame)
    tunnel.window(stream, 3)
    assert tunnel.read(DataFrame, stream).data == b"yyy"


def test_stalled_stream_beside_another(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    """An application that does not read: others in its tunnel go on, its own bytes are there later."""
    lazy = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    busy = dialled(stage, apps)
    other = answered(tunnel)
    sent = tunnel.fill(stream)
    assert carries(tunnel, other, busy)
    assert exactly(lazy, sent) == b"f" * sent


# ---- violations

VIOLATIONS: dict[str, tuple[Callable[[Http2, int], bytes], int]] = {
    "PUSH_PROMISE": (
        lambda t, s: PushPromiseFrame(s, 2, flags=["END_HEADERS"]).serialize(),
        PROTOCOL_ERROR,
    ),
    "a header block that is none": (
        lambda t, s: HeadersFrame(s, b"\xff" * 9, flags=["END_HEADERS"]).serialize(),
        COMPRESSION_ERROR,
    ),
    "SETTINGS of 5 bytes": (lambda t, s: raw(4, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "initial window too large": (lambda t, s: raw(4, 0, 0, b"\0\4\x80\0\0\0"), FLOW_CONTROL_ERROR),
    "CONTINUATION of nothing": (lambda t, s: raw(9, 0, s), PROTOCOL_ERROR),
    "DATA on no stream": (lambda t, s: raw(0, 0, 0, b"x"), PROTOCOL_ERROR),
    "an answer to no request": (lambda t, s: t.headers(s + 100, OK).serialize(), PROTOCOL_ERROR),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_violation(stage: Stage, servers: Servers, apps: ExitStack, what: str) -> None:
    """The application sees a reset; the next one gets a new tunnel."""
    wrong, code = VIOLATIONS[what]
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    assert carries(tunnel, stream, app)
    with stage.refusal("source", "tunnel_violation") as line:
        tunnel.write(wrong(tunnel, stream))
        assert tunnel.goodbye() == code
        assert is_reset(app)
    assert "HTTP/2 violation by the peer" in line["error"]
    other = dialled(stage, apps)
    new = servers.accept()
    assert carries(new, answered(new), other)


def is_cut_off(tunnel: Http2, stream: int, app: socket.socket) -> bool:
    """Whether a stream broke for what the server said, at both ends."""
    return tunnel.read(RstStreamFrame, stream).error_code == PROTOCOL_ERROR and is_reset(app)


@pytest.mark.parametrize(
    "answer", [[("server", "x")], [(":status", "2000")], [*OK, ("Upper", "case")], [*OK, *OK]], ids=str
)
def test_malformed_answer(
    stage: Stage, servers: Servers, apps: ExitStack, answer: list[tuple[str, str]]
) -> None:
    """It concerns its stream alone."""
    with stage.refusal("source", "stream_violation"):
        app = dialled(stage, apps)
        tunnel = servers.accept()
        stream, _ = tunnel.read_headers()
        tunnel.send(tunnel.headers(stream, answer))
        assert is_cut_off(tunnel, stream, app)
    other = dialled(stage, apps)
    assert carries(tunnel, answered(tunnel), other)


@pytest.mark.parametrize("block", [OK, [("x", "y")]], ids=["an answer", "trailers that do not end it"])
def test_second_header_block(
    stage: Stage, servers: Servers, apps: ExitStack, block: list[tuple[str, str]]
) -> None:
    app = dialled(stage, apps)
    tunnel = servers.accept()
    stream = answered(tunnel)
    assert carries(tunnel, stream, app)
    with stage.refusal("source", "stream_violation"):
        tunnel.send(tunnel.headers(stream, block))
        assert is_cut_off(tunnel, stream, app)
    other = dialled(stage, apps)
    assert carries(tunnel, answered(tunnel), other)


def test_server_that_speaks_no_http2(stage: Stage, servers: Servers, apps: ExitStack) -> None:
    with stage.refusal("source", "tunnel_violation"):
        app = dialled(stage, apps)
        servers.tls().sendall(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        assert is_reset(app)
