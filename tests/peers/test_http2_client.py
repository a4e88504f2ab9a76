"""Clients of our tunnel that use HTTP/2 as few do: all of it is allowed, and works."""

import socket

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.peers.exchange import reset
from tests.peers.stage import PEER, PORT, Stage, is_reset
from tests.peers.streams import opened, serves, widen
from tests.support.http2 import (
    CONNECT_ERROR,
    PREFACE,
    WINDOW,
    Closed,
    Http2,
    exactly,
    raw,
)

INITIAL_WINDOW, MAX_FRAME = SettingsFrame.INITIAL_WINDOW_SIZE, SettingsFrame.MAX_FRAME_SIZE


def test_what_we_say_first(tunnel: Http2) -> None:
    assert tunnel.alive()
    assert tunnel.settings == {
        SettingsFrame.MAX_CONCURRENT_STREAMS: 1000,
        INITIAL_WINDOW: 16_375,  # a record of ours
        MAX_FRAME: 1 << 20,
        SettingsFrame.MAX_HEADER_LIST_SIZE: 64 << 10,
    }
    assert tunnel.read(WindowUpdateFrame, 0).window_increment == (16 << 20) - WINDOW


def test_answer_describes_the_destination(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    stream = tunnel.connect(f"{stage.ours.v4}:{PORT}")
    _, headers = tunnel.read_headers(stream)
    fields = dict(headers)
    assert fields.keys() == {":status", "baggage"}
    assert "k8s.namespace.name=demo" in fields["baggage"].split(",")


def test_request_with_what_others_add(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """Unknown fields, a `forwarded` that is nonsense, a baggage in two parts: none of it is in the way."""
    more = [("forwarded", '=";;host="'), ("baggage", "a=b"), ("baggage", ",=,"), ("x-any", "v" * 5000)]
    stream = tunnel.connect(f"{stage.ours.v4}:{PORT}", more)
    assert tunnel.status(stream) == 200


def test_header_block_in_pieces(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """Padded, with a priority, and continued byte by byte."""
    stream = tunnel.new_stream()
    whole = tunnel.headers(stream, [(":method", "CONNECT"), (":authority", f"{stage.ours.v4}:{PORT}")])
    first = HeadersFrame(stream, whole.data[:1], flags=["PADDED", "PRIORITY"], pad_length=200)
    rest = [ContinuationFrame(stream, bytes([byte])) for byte in whole.data[1:]]
    rest[-1].flags.add("END_HEADERS")
    tunnel.send(first, *rest)
    assert tunnel.status(stream) == 200


def test_request_byte_by_byte(stage: Stage, application: socket.socket) -> None:
    """Each byte in a TLS record of its own, the preface's too."""
    with stage.client() as tunnel:
        block = [(":method", "CONNECT"), (":authority", f"{stage.ours.v4}:{PORT}")]
        stream = tunnel.new_stream()
        frames = [SettingsFrame(0), tunnel.headers(stream, block), DataFrame(stream, b"hello")]
        for byte in PREFACE + b"".join(frame.serialize() for frame in frames):
            tunnel.write(bytes([byte]))
        assert tunnel.status(stream) == 200
        far, _ = application.accept()
        with far:
            assert exactly(far, 5) == b"hello"


def test_data_before_the_answer(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """A client need not wait for the 200; what it says early, its end too, reaches the application."""
    stream = tunnel.connect(f"{stage.ours.v4}:{PORT}")
    tunnel.data(stream, b"early", end=True)
    far, _ = application.accept()
    with far:
        far.settimeout(10)
        assert exactly(far, 5) == b"early"
        assert far.recv(1) == b""
        far.sendall(b"late")
        assert tunnel.status(stream) == 200
        assert tunnel.payload(stream, 4) == b"late"


def test_frames_that_mean_nothing_here(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    stream, far = opened(stage, tunnel, application)
    with far:
        tunnel.write(raw(0xBE, 0xFF, 0, bytes(500)) + raw(0xBE, 0, stream))
        tunnel.send(
            PriorityFrame(stream, stream_weight=3),
            PriorityFrame(stream + 100),
            SettingsFrame(0, settings={0x7777: 1}),
            SettingsFrame(0, flags=["ACK"]),
            PingFrame(0, b"unasked?", flags=["ACK"]),
            RstStreamFrame(stream + 200, 8),
            WindowUpdateFrame(stream + 200, 5),
            DataFrame(stream, b"a", flags=["PADDED"], pad_length=255),
            DataFrame(stream, b""),
            DataFrame(stream, b"", flags=["PADDED"], pad_length=0),
            DataFrame(stream, b"b"),
        )
        assert exactly(far, 2) == b"ab"
        assert tunnel.alive()


def test_padding_is_given_back(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """Far more padding than all windows together, and hardly any data."""
    stream, far = opened(stage, tunnel, application)
    with far:
        padded = DataFrame(stream, b"x", flags=["PADDED"], pad_length=255).serialize()
        assert tunnel.alive()
        room, sent = tunnel.room(stream), 0
        while sent < 100_000:
            while room < 50 * len(padded):
                room += tunnel.read(WindowUpdateFrame, stream).window_increment
            tunnel.write(padded * 50)
            room, sent = room - 257 * 50, sent + 50
        tunnel.send(DataFrame(stream, b"", flags=["END_STREAM"]))
        got = 0
        while piece := far.recv(1 << 16):
            got += len(piece)
        assert got == sent


MANY = b"".join(DataFrame(1, bytes([index % 256])).serialize() for index in range(5000))
"""Frames of one byte, more than a tunnel takes in one turn."""


def test_more_than_a_turn(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """What is too much for one turn waits for the next ones."""
    stream, far = opened(stage, tunnel, application)
    assert stream == 1
    with far:
        tunnel.write(MANY)
        assert exactly(far, 5000) == bytes(index % 256 for index in range(5000))
        assert tunnel.alive()


def test_more_than_a_turn_before_the_end(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """The same when the client has closed meanwhile: all that it said is passed on first."""
    _, far = opened(stage, tunnel, application)
    with far, stage.refusal("destination", "tunnel_lost") as line:
        tunnel.write(MANY)
        tunnel.sock.shutdown(socket.SHUT_WR)
    assert line["bytes_recv"] == 5000


@pytest.mark.parametrize("size", [1, 100, 16_384, 1 << 18])
def test_frames_of_any_size(stage: Stage, tunnel: Http2, application: socket.socket, size: int) -> None:
    stream, far = opened(stage, tunnel, application)
    with far:
        widen(tunnel, stream, far, size)
        tunnel.data(stream, b"s" * size, end=True)
        assert exactly(far, size) == b"s" * size


def test_server_ends_first(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    stream, far = opened(stage, tunnel, application)
    with far:
        far.shutdown(socket.SHUT_WR)
        assert tunnel.ended(stream)
        tunnel.data(stream, b"more", end=True)
        assert exactly(far, 4) == b"more"
        assert far.recv(1) == b""


def test_trailers_end_a_stream(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    stream, far = opened(stage, tunnel, application)
    with far:
        tunnel.send(tunnel.headers(stream, [("x-trailer", "1")], end=True))
        assert far.recv(1) == b""
        far.sendall(b"still")
        assert tunnel.payload(stream, 5) == b"still"


def test_reset_reaches_the_application(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    stream, far = opened(stage, tunnel, application)
    with far, stage.refusal("destination", "peer_reset") as line:
        tunnel.send(RstStreamFrame(stream, 8))
        assert is_reset(far)
    assert line["src.identity"] == PEER
    assert serves(stage, tunnel, application)


def test_applications_reset_reaches_the_client(
    stage: Stage, tunnel: Http2, application: socket.socket
) -> None:
    stream, far = opened(stage, tunnel, application)
    with stage.refusal("destination", "app_reset"):
        reset(far)
        assert tunnel.read(RstStreamFrame, stream).error_code == CONNECT_ERROR
    assert serves(stage, tunnel, application)


def test_client_says_goodbye(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """Streams that are there go on to their end; then the connection ends."""
    stream, far = opened(stage, tunnel, application)
    with far:
        tunnel.send(GoAwayFrame(0, 0))
        tunnel.data(stream, b"on")
        assert exactly(far, 2) == b"on"
        tunnel.data(stream, b"", end=True)
        assert far.recv(1) == b""
    assert tunnel.ended(stream)
    with pytest.raises(Closed):
        while True:
            tunnel.read(Frame)


# ---- windows


def test_small_initial_window(stage: Stage, application: socket.socket) -> None:
    """Not a byte more than was allowed, and all of them in the end."""
    with stage.client() as tunnel:
        tunnel.greet({INITIAL_WINDOW: 10})
        stream, far = opened(stage, tunnel, application)
        with far:
            far.sendall(bytes(range(100)))
            got = tunnel.read(DataFrame, stream).data
            assert len(got) == 10
            while len(got) < 100:
                assert tunnel.alive()
                tunnel.window(stream, 10)
                frame = tunnel.read(DataFrame, stream)
                assert len(frame.data) <= 10
                got += frame.data
            assert got == bytes(range(100))


def test_window_of_nothing_is_enlarged_by_settings(stage: Stage, application: socket.socket) -> None:
    with stage.client() as tunnel:
        tunnel.greet({INITIAL_WINDOW: 0})
        stream, far = opened(stage, tunnel, application)
        with far:
            far.sendall(b"patience")
            assert tunnel.alive()
            tunnel.send(SettingsFrame(0, settings={INITIAL_WINDOW: 100}))
            assert tunnel.payload(stream, 8) == b"patience"


def test_window_that_shrinks_below_nothing(stage: Stage, application: socket.socket) -> None:
    """RFC 9113 section 6.9.2: what was used up is owed before anything more may be sent."""
    with stage.client() as tunnel:
        tunnel.greet({INITIAL_WINDOW: 1000})
        stream, far = opened(stage, tunnel, application)
        with far:
            far.sendall(b"x" * 1000)
            assert sum(len(tunnel.read(DataFrame, stream).data) for _ in range(1)) == 1000
            tunnel.send(SettingsFrame(0, settings={INITIAL_WINDOW: 0}))
            far.sendall(b"y" * 10)
            tunnel.window(stream, 1000)  # now it is 0 again
            assert tunnel.alive()
            tunnel.window(stream, 3)
            assert tunnel.read(DataFrame, stream).data == b"yyy"


def test_connection_window(stage: Stage, tunnel: Http2, application: socket.socket) -> None:
    """It holds all streams together, also those whose own windows are wide."""
    tunnel.send(SettingsFrame(0, settings={INITIAL_WINDOW: 1 << 20}))
    stream, far = opened(stage, tunnel, application)
    other, other_far = opened(stage, tunnel, application)
    with far, other_far:
        far.sendall(b"z" * 100_000)
        got = 0
        while got < WINDOW:
            got += len(tunnel.read(DataFrame, stream).data)
        assert got == WINDOW
        other_far.sendall(b"other")
        assert tunnel.alive()
        tunnel.window(0, 100_000)
        assert tunnel.read(DataFrame, other).data == b"other"
