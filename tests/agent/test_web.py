"""The agent's web server, asked over real connections."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent import web
from agent.errors import SettingsError
from tests.support.wait import PATIENCE


async def page() -> web.Page:
    return web.Page("200 OK", "hello\n")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await web.serve("127.0.0.1", 0, {"/page": page})
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        ("GET /page HTTP/1.1\r\nhost: x\r\n\r\n", "200 OK", "hello\n"),
        ("GET /page?x=1 HTTP/1.1\r\n\r\n", "200 OK", "hello\n"),
        ("HEAD /page HTTP/1.1\r\n\r\n", "200 OK", ""),
        ("GET /other HTTP/1.1\r\n\r\n", "404 Not Found", "there are /page\n"),
        ("POST /page HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "GET and HEAD only\n"),
    ],
)
async def test_answers(port: int, request_: str, status: str, body: str) -> None:
    answer = await ask(port, request_)
    assert answer.startswith(f"HTTP/1.1 {status}\r\n")
    assert answer.partition("\r\n\r\n")[2] == body


@pytest.mark.parametrize("request_", ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\n" + "a: b\r\n" * 200, ""])
async def test_what_is_no_request_is_not_answered(port: int, request_: str) -> None:
    assert await ask(port, request_) == ""
    assert (await ask(port, "GET /page HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 200"), "it goes on"


async def test_a_port_that_is_taken(port: int) -> None:
    with pytest.raises(SettingsError, match=f"--metrics-port {port}: .*another port, or 0 for none"):
        await web.serve("127.0.0.1", port, {})


async def ask(port: int, request: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return answer.decode()
