"""Clients of our tunnel that use HTTP/2 wrongly, or too much: the right error, never a hang."""

import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.peers.stage import PORT, Stage, is_reset
from tests.peers.streams import opened, serves
from tests.support import core
from tests.support.http2 import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Closed,
    Http2,
    raw,
)
from tests.support.wait import until

INITIAL_WINDOW = SettingsFrame.INITIAL_WINDOW_SIZE


def test_client_that_overruns_a_window(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    stream, far = opened(stage, tunnel, application)
    with far, stage.refusal("destination", "tunnel_violation") as line:
        piece = DataFrame(stream, b"o" * (1 << 20)).serialize()
        with pytest.raises(Closed):
            while True:  # the application takes a few MB at most, and reads none
                tunnel.write(piece)
        assert is_reset(far)
    assert line["error"].endswith(f"more DATA than the window allows (error {FLOW_CONTROL_ERROR})")


# ---- violations: what is sent to a tunnel with one open stream, and the error that ends the tunnel

Wrong = Callable[[Http2, int], list[Frame] | bytes]


VIOLATIONS: dict[str, tuple[Wrong, int]] = {
    "SETTINGS of 7 bytes": (lambda t, s: raw(4, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (lambda t, s: raw(4, 0, s), PROTOCOL_ERROR),
    "initial window too large": (
        lambda t, s: raw(4, 0, 0, b"\0\4\x80\0\0\0"),
        FLOW_CONTROL_ERROR,
    ),
    "frame size too small": (lambda t, s: raw(4, 0, 0, b"\0\5\0\0\x3f\xff"), PROTOCOL_ERROR),
    "ENABLE_PUSH of 2": (lambda t, s: raw(4, 0, 0, b"\0\2\0\0\0\2"), PROTOCOL_ERROR),
    "PING of 7 bytes": (lambda t, s: raw(6, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "PING on a stream": (lambda t, s: raw(6, 0, s, bytes(8)), PROTOCOL_ERROR),
    "DATA on no stream": (lambda t, s: raw(0, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA of more than a frame may have": (lambda t, s: raw(0, 0, s, length=(1 << 20) + 1), FRAME_SIZE_ERROR),
    "DATA padded beyond its end": (lambda t, s: raw(0, 8, s, b"\x05x"), PROTOCOL_ERROR),
    "RST_STREAM of 3 bytes": (lambda t, s: raw(3, 0, s, bytes(3)), FRAME_SIZE_ERROR),
    "PRIORITY of 4 bytes": (lambda t, s: raw(2, 0, s, bytes(4)), FRAME_SIZE_ERROR),
    "GOAWAY of 4 bytes": (lambda t, s: raw(7, 0, 0, bytes(4)), FRAME_SIZE_ERROR),
    "window update of nothing": (lambda t, s: raw(8, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "connection window too large": (
        lambda t, s: [WindowUpdateFrame(0, (1 << 31) - 1)],
        FLOW_CONTROL_ERROR,
    ),
    "PUSH_PROMISE": (lambda t, s: [PushPromiseFrame(s, 2, flags=["END_HEADERS"])], PROTOCOL_ERROR),
    "CONTINUATION of nothing": (lambda t, s: [ContinuationFrame(s, b"")], PROTOCOL_ERROR),
    "a header block interrupted": (
        lambda t, s: [HeadersFrame(s + 2, b""), PingFrame(0, bytes(8))],
        PROTOCOL_ERROR,
    ),
    "a header block continued elsewhere": (
        lambda t, s: [HeadersFrame(s + 2, b""), ContinuationFrame(s, b"")],
        PROTOCOL_ERROR,
    ),
    "a stream of an even number": (
        lambda t, s: [t.headers(s + 1, [(":method", "CONNECT")])],
        PROTOCOL_ERROR,
    ),
    "a header block that is none": (
        lambda t, s: [HeadersFrame(s + 2, b"\xff\xff\xff\xff\xff", flags=["END_HEADERS"])],
        COMPRESSION_ERROR,
    ),
    "a header block without end": (
        lambda t, s: [HeadersFrame(s + 2, b""), *[ContinuationFrame(s + 2, b"\0" * 9000)] * 4],
        ENHANCE_YOUR_CALM,
    ),
    "a table of 256 MB": (
        lambda t, s: [HeadersFrame(s + 2, b"\x3f\xe1\xff\xff\x7f\x82", flags=["END_HEADERS"])],
        COMPRESSION_ERROR,
    ),
    "a table that changes within a block": (
        lambda t, s: [HeadersFrame(s + 2, b"\x82\x20", flags=["END_HEADERS"])],
        COMPRESSION_ERROR,
    ),
    "Huffman padding that is none": (
        lambda t, s: [HeadersFrame(s + 2, b"\x00\x01a\x81\x18", flags=["END_HEADERS"])],
        COMPRESSION_ERROR,
    ),
    "empty continuations without end": (
        lambda t, s: [HeadersFrame(s + 2, b""), *[ContinuationFrame(s + 2, b"")] * 1000],
        ENHANCE_YOUR_CALM,
    ),
    "a header bomb": (lambda t, s: [HeadersFrame(s + 2, bomb(), flags=["END_HEADERS"])], ENHANCE_YOUR_CALM),
}


def bomb() -> bytes:
    """A few kB of HPACK that are many MB of header fields."""
    encoder = Encoder()
    large = encoder.encode([("x", "y" * 3900)], huffman=False)
    return bytes(large) + bytes(encoder.encode([("x", "y" * 3900)])) * 20_000


def lost(stage: Stage, reason: str) -> int:
    """How many tunnels of clients have ended for that reason."""
    return stage.tunnel.counted("warren_tunnels_lost").get(f'reporter="destination",reason="{reason}"', 0)


@pytest.mark.parametrize("what", VIOLATIONS)
def test_violation(stage: Stage, tunnel: Http2, application: socket.socket, what: str) -> None:
    """The tunnel ends with the right error; its streams are reset; other tunnels go on."""
    wrong, code = VIOLATIONS[what]
    stream, far = opened(stage, tunnel, application)
    sent = wrong(tunnel, stream)
    ends = lost(stage, "tunnel_violation")
    with far, stage.refusal("destination", "tunnel_violation"):
        tunnel.write(sent if isinstance(sent, bytes) else b"".join(f.serialize() for f in sent))
        assert tunnel.goodbye() == code
        assert is_reset(far)
    assert lost(stage, "tunnel_violation") == ends + 1
    with stage.client() as another:
        another.greet()
        assert serves(stage, another, application)


# ---- violations that concern one stream: a header block on a stream that is open, or ended by the client

SECOND: dict[str, tuple[bool, list[tuple[str, str]], bool, int]] = {
    "a second request": (False, [(":method", "CONNECT"), (":authority", "x:1")], False, PROTOCOL_ERROR),
    "trailers that do not end it": (False, [("x", "y")], False, PROTOCOL_ERROR),
    "trailers that are malformed": (False, [("connection", "close")], True, PROTOCOL_ERROR),
    "trailers behind the end": (True, [("x", "y")], True, STREAM_CLOSED),
}


@pytest.mark.parametrize("what", SECOND)
def test_second_header_block(stage: Stage, tunnel: Http2, application: socket.socket, what: str) -> None:
    """The stream breaks, with the reason; the tunnel goes on."""
    ended, block, end, code = SECOND[what]
    stream, far = opened(stage, tunnel, application)
    if ended:
        tunnel.data(stream, b"", end=True)
        assert far.recv(1) == b""
    with far, stage.refusal("destination", "stream_violation"):
        tunnel.send(tunnel.headers(stream, block, end=end))
        assert tunnel.read(RstStreamFrame, stream).error_code == code
        assert ended or is_reset(far)
    assert serves(stage, tunnel, application)


@pytest.mark.parametrize(
    "field",
    [(":scheme", "https"), ("Upper", "case"), ("x y", "z"), ("x", "line\nbreak"), ("connection", "close")],
    ids=lambda field: field[0],
)
def test_malformed_request(
    stage: Stage, tunnel: Http2, application: socket.socket, field: tuple[str, str]
) -> None:
    """RFC 9113 section 8.1.1: no connection is made of it, whatever else it says."""
    with stage.refusal("destination", "malformed_request"):
        stream = tunnel.connect(f"{stage.ours.v4}:{PORT}", [field])
        assert tunnel.status(stream) == 400
        assert tunnel.read(RstStreamFrame, stream).error_code == PROTOCOL_ERROR
    assert serves(stage, tunnel, application)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + raw(6, 0, 0, bytes(8))])
def test_no_greeting(stage: Stage, first: bytes) -> None:
    with stage.client() as tunnel:
        tunnel.write(first)
        assert tunnel.goodbye() == PROTOCOL_ERROR


# ---- too much of what is allowed


def test_more_streams_than_allowed(stage: Stage, application: socket.socket) -> None:
    """The 1001st is refused in a way that says: ask again elsewhere.

    Over IPv6, as what follows: when they end, what an address may have logged is used up.
    """
    with stage.client(6) as tunnel:
        tunnel.greet()
        assert tunnel.alive()
        streams = [tunnel.connect(f"[{stage.ours.v6}]:{PORT}") for _ in range(1000)]
        with stage.refusal("destination", "too_many_streams"):
            streams.append(tunnel.connect(f"[{stage.ours.v6}]:{PORT}"))
            refused = tunnel.read(RstStreamFrame)
        assert (refused.stream_id, refused.error_code) == (streams[-1], REFUSED_STREAM)
        tunnel.send(*[RstStreamFrame(stream, 8) for stream in streams[:-1]])
        assert tunnel.alive()
        until(lambda: '"direction":"inbound"' not in stage.tunnel.call(core.connections))


def test_rapid_resets(stage: Stage) -> None:
    """A client that resets what it has just asked for: either it is served, or it is told to calm down."""
    with stage.client(6) as tunnel, suppress(Closed):
        tunnel.greet()
        for _ in range(20_000):
            stream = tunnel.new_stream()
            block = [(":method", "CONNECT"), (":authority", f"[{stage.ours.v6}]:7999")]
            tunnel.send(tunnel.headers(stream, block), RstStreamFrame(stream, 8))
        assert tunnel.alive()
    with stage.client() as another:
        another.greet()
        assert another.alive()
    until(lambda: '"direction":"inbound"' not in stage.tunnel.call(core.connections))


@pytest.mark.parametrize(
    "frame",
    [PingFrame(0, b"question"), SettingsFrame(0, settings={INITIAL_WINDOW: 1 << 20})],
    ids=["PING", "SETTINGS"],
)
def test_flood_that_is_read(stage: Stage, tunnel: Http2, frame: Frame) -> None:
    """All are answered."""
    for _ in range(50):
        tunnel.write(frame.serialize() * 200)
        for _ in range(200):
            tunnel.read(type(frame))
    assert tunnel.alive()


@pytest.mark.parametrize(
    "frame",
    [PingFrame(0, b"question"), SettingsFrame(0, settings={INITIAL_WINDOW: 1 << 20})],
    ids=["PING", "SETTINGS"],
)
def test_flood_that_is_not_read(stage: Stage, tunnel: Http2, frame: Frame) -> None:
    """Answers do not pile up without bound: the tunnel ends, and is counted by what would have piled up."""
    piece = frame.serialize() * 20_000
    before = lost(stage, "out_of_memory")
    with pytest.raises(Closed):
        for _ in range(1000):
            tunnel.write(piece)
    until(lambda: lost(stage, "out_of_memory") == before + 1)
    with stage.client() as another:
        another.greet()
        assert another.alive()
