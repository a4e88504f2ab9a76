"""The core's gRPC client with gRPC's own server, and with servers that break the rules, frame by frame."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.support.eventually import eventually
from tests.support.http2 import INTERNAL_ERROR, REFUSED_STREAM, Closed, Http2, raw
from tests.support.ports import free_port
from tests.support.wait import PATIENCE
from tunnel.channel import Channel, Code, RpcError

UNARY, STREAM = "/test.Service/Unary", "/test.Service/Stream"
MB = 1 << 20
Context = grpc.aio.ServicerContext[bytes, bytes]


class Service:
    """Answers what it was asked, or as the request wants it."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []
        self.cancelled = asyncio.Event()

    async def unary(self, request: bytes, context: Context) -> bytes:
        self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata() or ()})
        if request == b"denied":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you: 100 % façade\n")
        if request == b"never":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        return request

    async def stream(self, requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[tuple[Service, Channel]]:
    service, server = Service(), grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(service.unary),
        "Stream": grpc.stream_stream_rpc_method_handler(service.stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    server.add_insecure_port(f"unix:{directory}/socket")
    await server.start()
    try:
        yield service, Channel(f"unix:{directory}/socket")
    finally:
        await server.stop(None)


async def failure(channel: Channel, request: bytes = b"x", deadline: float = PATIENCE) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await channel.call(UNARY, request, deadline)
    return raised.value


async def test_answers_and_errors_of_a_server_arrive(tmp_path: Path) -> None:
    async with serving(tmp_path) as (service, channel):
        large = bytes(9 * MB)  # gRPC's own clients take 4 MB
        for request in (b"x", b"", large):
            assert await channel.call(UNARY, request, PATIENCE, (("Some-Key", "value"),)) == request
        assert service.metadata[0]["some-key"] == "value"
        denied = await failure(channel, b"denied")
        assert str(denied) == "PERMISSION_DENIED: not for you: 100 % façade\n"
        unknown = channel.call("/test.Service/Nothing", b"", PATIENCE)
        with pytest.raises(RpcError, match=r"^UNIMPLEMENTED: Method not found"):
            await unknown
        with pytest.raises(RpcError, match=r"^INVALID_ARGUMENT: .*authorization"):
            await channel.call(UNARY, b"x", PATIENCE, (("authorization", "two\nlines"),))


async def test_a_call_ends_in_time_and_is_cancelled_with_its_task(tmp_path: Path) -> None:
    async with serving(tmp_path) as (service, channel):
        while not service.metadata:  # a busy machine may not have got it there in time
            # Both sides hold to it, and the server's word may be first.
            assert (await failure(channel, b"never", 0.2)).code is Code.DEADLINE_EXCEEDED
        await eventually(service.cancelled.is_set)
        service.cancelled.clear()
        came = len(service.metadata)
        call = asyncio.create_task(channel.call(UNARY, b"never", PATIENCE))
        await eventually(lambda: len(service.metadata) > came)
        call.cancel()
        await eventually(service.cancelled.is_set)


async def test_a_stream_goes_both_ways_until_it_is_left(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel):
        with channel.stream(STREAM) as stream:
            for message in (b"one", b"", bytes(5 * MB), b"four"):
                stream.send(message)
            assert [await stream.read() for _ in range(4)] == [b"one", b"", bytes(5 * MB), b"four"]
        with pytest.raises(RpcError, match=r"^CANCELLED"):
            await stream.read()


async def test_the_next_call_connects_anew(tmp_path: Path) -> None:
    channel = Channel(f"unix:{tmp_path}/socket")
    for _ in range(2):
        async with serving(tmp_path):
            assert await channel.call(UNARY, b"x", PATIENCE) == b"x"
        assert (await failure(channel)).code is Code.UNAVAILABLE


async def test_why_there_is_no_connection(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match=r"^UNAVAILABLE: no connection: .*refused"):
        await Channel(f"http://127.0.0.1:{free_port()}").connect(PATIENCE)
    with pytest.raises(RpcError, match=r"^UNAVAILABLE: no connection: .*No such file"):
        await Channel(f"unix:{tmp_path}/none").connect(PATIENCE)
    with pytest.raises(OSError, match=r"is neither unix:PATH nor"):
        Channel("127.0.0.1:1")
    (tmp_path / "root.pem").write_text("no root")
    with pytest.raises(OSError, match="no PEM certificate in it"):
        Channel("https://127.0.0.1:1", tmp_path / "root.pem")


Behaviour = Callable[[Http2, int], None]
OK = [(":status", "200"), ("content-type", "application/grpc")]


@contextmanager
def behaving(path: Path, behave: Behaviour) -> Iterator[Channel]:
    """A server that takes one request, and does then as it is told, until the end of the `with`."""
    accepted: list[socket.socket] = []

    def serve() -> None:
        accepted.append(listener.accept()[0])
        with suppress(Closed, OSError), Http2(accepted[0], client=False) as connection:
            connection.greet()
            stream, _ = connection.read_headers()
            behave(connection, stream)
            while True:
                connection.read(GoAwayFrame)

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(str(path))
        listener.listen()
        served = thread.submit(serve)
        try:
            yield Channel(f"unix:{path}")
        finally:
            for one in (listener, *accepted):
                with suppress(OSError):  # it is closed already
                    one.shutdown(socket.SHUT_RDWR)
        served.result()


def answers(*frames: bytes, status: str = "0", headers: list[tuple[str, str]] = OK) -> Behaviour:
    """Head, DATA, trailers."""

    def behave(connection: Http2, stream: int) -> None:
        connection.send(connection.headers(stream, headers))
        for data in frames:
            connection.send(DataFrame(stream, data))
        connection.send(connection.headers(stream, [("grpc-status", status)], end=True))

    return behave


def endless_headers(connection: Http2, stream: int) -> None:
    connection.send(HeadersFrame(stream, connection.encoder.encode(OK)))
    while True:
        connection.write(raw(9, 0, stream, connection.encoder.encode([("x", "y" * 9000)])))


def endless_message(connection: Http2, stream: int) -> None:
    connection.send(connection.headers(stream, OK), DataFrame(stream, b"\0\xff\0\0\0"))
    while True:
        connection.fill(stream)


def sends(*frames: Callable[[int], Frame]) -> Behaviour:
    """Frames, each made for the request's stream."""
    return lambda connection, stream: connection.send(*(frame(stream) for frame in frames))


BROKEN: dict[str, tuple[Behaviour, str]] = {
    "no HTTP/2": (lambda one, _: one.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "^INTERNAL|^UNAVAILABLE"),
    "a reset": (sends(lambda stream: RstStreamFrame(stream, INTERNAL_ERROR)), "^INTERNAL: "),
    "a refusal": (sends(lambda stream: RstStreamFrame(stream, REFUSED_STREAM)), "^UNAVAILABLE: "),
    "goodbye": (sends(lambda _: GoAwayFrame(0, 0)), "^UNAVAILABLE: "),
    "the end": (lambda one, _: one.sock.shutdown(socket.SHUT_RDWR), "^UNAVAILABLE: "),
    "HTTP's error": (answers(headers=[(":status", "503")]), "^UNAVAILABLE: .* HTTP 503"),
    "a page": (answers(headers=[(":status", "200"), ("content-type", "text/html")]), "^UNKNOWN: .*text/html"),
    "no message": (answers(), "^INTERNAL: the server sent no single message"),
    "two messages": (answers(b"\0\0\0\0\1a\0\0\0\0\1b"), "^INTERNAL: the server sent no single message"),
    "half a message": (answers(b"\0\0\0\0\2a"), "^INTERNAL: the call ends within a message"),
    "a compressed one": (answers(b"\1\0\0\0\1a"), "^INTERNAL: a message is compressed"),
    "a message and an error": (answers(b"\0\0\0\0\1a", status="14"), "^UNAVAILABLE: $"),
    "no number": (answers(b"\0\0\0\0\1a", status="?"), "^UNKNOWN: $"),
    "endless headers": (endless_headers, "^INTERNAL|^UNAVAILABLE|^RESOURCE_EXHAUSTED"),
    "too large a message": (endless_message, "^RESOURCE_EXHAUSTED: a message has 4278190080 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_server_is_an_error(name: str, tmp_path: Path) -> None:
    behave, error = BROKEN[name]
    with behaving(tmp_path / "socket", behave) as channel, pytest.raises(RpcError, match=error):
        await channel.call(UNARY, b"x", PATIENCE)


async def test_silence_is_an_error_in_time(tmp_path: Path) -> None:
    with behaving(tmp_path / "socket", lambda *_: None) as channel:
        assert str(await failure(channel, b"x", 0.2)) == "DEADLINE_EXCEEDED: no answer within 200ms"


async def test_neither_side_is_filled_by_one_that_does_not_read(tmp_path: Path) -> None:
    sent = 0

    def fill(connection: Http2, stream: int) -> None:
        nonlocal sent
        message = b"\0\0\0\x3f\xfb" + bytes(16379)
        connection.send(connection.headers(stream, OK))
        while connection.room(stream) >= len(message):
            connection.data(stream, message)
            sent += len(message)
            connection.alive()

    with behaving(tmp_path / "socket", fill) as channel, channel.stream(STREAM) as stream:
        await eventually(lambda: sent >= MB - 16384)
        for _ in range(66):
            stream.send(bytes(MB))
        with pytest.raises(RpcError, match=r"^RESOURCE_EXHAUSTED: more than 67108864 bytes of requests"):
            async with asyncio.timeout(PATIENCE):
                while True:
                    await stream.read()
        assert sent < 2 * MB
