"""HTTP/2 frame by frame, right or wrong as a test wants it, at either end of a connection."""

import socket
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.support.certificates import Certificate

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TIMEOUT = 30.0  # seconds, for everything that is waited for
PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 1, 2, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 10, 11
WINDOW = 65_535
F = TypeVar("F", bound=Frame)
Headers = Iterable[tuple[str, str]]


class Closed(Exception):
    """The other side has closed the connection."""


class Http2:
    """One end. SETTINGS and PING are answered while frames are read; windows are the test's to give."""

    def __init__(self, sock: socket.socket, client: bool) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT)
        self._client = client
        self.encoder, self._decoder = Encoder(), Decoder()
        self.settings: dict[int, int] = {}
        self._next = 1
        self._kept: list[Frame] = []
        self._given: Counter[int] = Counter()

    def greet(self, settings: Mapping[int, int] | None = None) -> None:
        """Say what each side says first."""
        if self._client:
            self.write(PREFACE)
        self.send(SettingsFrame(0, settings=dict(settings or {})))
        if not self._client:
            got = exactly(self.sock, len(PREFACE))
            assert got == PREFACE

    def send(self, *frames: Frame) -> None:
        """Raises Closed."""
        for frame in frames:
            if isinstance(frame, DataFrame):
                self._given[frame.stream_id] -= frame.flow_controlled_length
        self.write(b"".join(frame.serialize() for frame in frames))

    def write(self, data: bytes) -> None:
        """Bytes that need not be frames. Raises Closed."""
        try:
            self.sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError) as error:
            raise Closed from error

    def data(self, stream: int, payload: bytes, end: bool = False) -> None:
        self.send(DataFrame(stream, payload, flags=["END_STREAM"] if end else []))

    def room(self, stream: int) -> int:
        """Bytes that the stream's window allows, as far as frames were read."""
        return self.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, WINDOW) + self._given[stream]

    def fill(self, stream: int) -> int:
        """DATA until the other side gives the stream no window any more; how many bytes that were."""
        sent = 0
        while self.alive() and (room := self.room(stream)):
            for _ in range(0, room, 1 << 14):
                self.data(stream, b"f" * min(1 << 14, self.room(stream)))
            sent += room
        return sent

    def headers(self, stream: int, headers: Headers, end: bool = False) -> HeadersFrame:
        """A whole header block, not sent yet."""
        flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
        return HeadersFrame(stream, self.encoder.encode(list(headers)), flags=flags)

    def connect(self, authority: str, more: Headers = (), method: str = "CONNECT") -> int:
        """Ask for a stream; its number."""
        stream = self.new_stream()
        self.send(self.headers(stream, [(":method", method), (":authority", authority), *more]))
        return stream

    def new_stream(self) -> int:
        self._next += 2
        return self._next - 2

    def status(self, stream: int) -> int:
        """The answer to a request."""
        return int(dict(self.read_headers(stream)[1])[":status"])

    def read_headers(self, stream: int | None = None) -> tuple[int, list[tuple[str, str]]]:
        """The next header block, of one stream or of any; the stream's number, and the fields."""
        frame = self.read(HeadersFrame, stream)
        assert "END_HEADERS" in frame.flags
        return frame.stream_id, [(str(name), str(value)) for name, value in self._decoder.decode(frame.data)]

    def payload(self, stream: int, size: int) -> bytes:
        """The next `size` bytes of DATA; what they took of the windows is given back."""
        got = b""
        while len(got) < size:
            frame = self.read(DataFrame, stream)
            assert "END_STREAM" not in frame.flags, "the stream ended early"
            got += frame.data
            if frame.data:
                self.window(0, len(frame.data))
                self.window(stream, len(frame.data))
        assert len(got) == size
        return got

    def window(self, stream: int, more: int) -> None:
        self.send(WindowUpdateFrame(stream, more))

    def ended(self, stream: int) -> bool:
        """Waits for the stream's end; False when it is a reset."""
        while True:
            frame = self.read(Frame, stream)
            if isinstance(frame, RstStreamFrame):
                return False
            if "END_STREAM" in frame.flags:
                return True

    def read(self, kind: type[F], stream: int | None = None) -> F:
        """The next frame of a kind, of one stream or of any. Others are kept for later. Raises Closed."""

        def fits(frame: Frame) -> bool:
            return isinstance(frame, kind) and stream in (None, frame.stream_id)

        for index, frame in enumerate(self._kept):
            if fits(frame):
                return self._kept.pop(index)  # type: ignore[return-value]
        while not fits(frame := self._receive()):
            self._kept.append(frame)
        return frame  # type: ignore[return-value]

    def kept(self, kind: type[Frame]) -> bool:
        """Whether a frame of a kind has come and was not asked for."""
        return any(isinstance(frame, kind) for frame in self._kept)

    def alive(self) -> bool:
        """Whether the other side answers a PING."""
        self.send(PingFrame(0, b"is alive"))
        while True:
            if self.read(PingFrame).opaque_data == b"is alive":
                return True

    def goodbye(self) -> int:
        """Waits for GOAWAY and the connection's end; the error code."""
        code = self.read(GoAwayFrame).error_code
        try:
            while True:
                self._receive()
        except Closed:
            return code

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> Frame:
        frame, length = Frame.parse_frame_header(memoryview(exactly(self.sock, 9)))
        frame.parse_body(memoryview(exactly(self.sock, length)))
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.settings.update(frame.settings)
            self.send(SettingsFrame(0, flags=["ACK"]))
        if isinstance(frame, WindowUpdateFrame):
            self._given[frame.stream_id] += frame.window_increment
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        return frame


def raw(kind: int, flags: int, stream: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A frame, as wrong as wanted; `length` if it is not that of the body."""
    size = len(body) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def exactly(sock: socket.socket, size: int) -> bytes:
    """Raises Closed."""
    got = b""
    while len(got) < size:
        try:
            part = sock.recv(size - len(got))
        except (ConnectionResetError, ssl.SSLEOFError) as error:
            raise Closed from error
        if not part:
            raise Closed
        got += part
    return got


def client_context(me: Certificate | None, root: str) -> ssl.SSLContext:
    """For the client's end: shows `me`, and believes what `root` (PEM) has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _context(context, me, root)


def server_context(me: Certificate, root: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _context(context, me, root)


def _context(context: ssl.SSLContext, me: Certificate | None, root: str) -> ssl.SSLContext:
    context.load_verify_locations(cadata=root)
    context.set_alpn_protocols(["h2"])
    if me:
        context.load_cert_chain(me.chain, me.key)
    return context
