"""The small HTTP server, with http.client and with clients that misbehave."""

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator

import pytest_asyncio

from protocols.web import JSON, Request, Response, serve
from tests.support.wait import PATIENCE

# One that is too large, one that is shorter than it says.
BODIES = [
    b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (n, b"x" * sent)
    for n, sent in ((11, 11), (5, 4))
]


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    async def hello(_: Request) -> Response:
        return Response("[1]", JSON)

    async def echo(request: Request) -> Response:
        return Response(f"{request.query} {request.body!r}")

    routes = {("GET", "/hello"): hello, ("POST", "/quit"): hello, ("POST", "/echo"): echo}
    server = await serve(routes, "127.0.0.1", 0, largest_body=10)
    yield server.sockets[0].getsockname()[1]
    server.close()


def ask(port: int, method: str, path: str, given: bytes | None = None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, given)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()
    finally:
        connection.close()


async def test_answers(port: int) -> None:
    async def asked(method: str, path: str) -> tuple[int, str, bytes]:
        return await asyncio.to_thread(ask, port, method, path)

    assert await asked("GET", "/hello?x=1") == (200, JSON, b"[1]")
    assert await asked("HEAD", "/hello") == (200, JSON, b"")
    assert await asked("POST", "/quit") == (200, JSON, b"[1]")
    status, _, body = await asked("GET", "/quit")
    assert (status, body) == (405, b"use POST\n")
    status, _, body = await asked("GET", "/nothing")
    assert status == 404
    assert b"GET /hello\nPOST /quit\n" in body


async def test_query_and_body_are_passed_on(port: int) -> None:
    answer = await asyncio.to_thread(ask, port, "POST", "/echo?from=a%2Fb&to=&to=c", b"0123456789")
    assert answer[2] == b"{'from': 'a/b', 'to': 'c'} b'0123456789'"


async def test_what_is_no_request_ends_the_connection(port: int) -> None:
    for nonsense in (
        b"\x16\x03\x01\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n",
        b"x" * 20_000,
        *BODIES,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(nonsense)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):  # when it did not read all of it
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
    assert (await asyncio.to_thread(ask, port, "GET", "/hello"))[0] == 200
