"""The stand-in server and the demonstration's client, against each other and against plain sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.lab import client, echo
from tests.support.ports import free_port
from tests.support.wait import PATIENCE

FACTS = {"pod": "web-1", "namespace": "default", "labels": {"app": "web"}}

REQUESTS = (
    b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nt: v\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"POST /b HTTP/1.1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabc",
    b"GET /never HTTP/1.1\r\n\r\n",
)


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """A stand-in on a free port."""
    port = free_port()
    task = asyncio.create_task(echo.main({**FACTS, "ports": [port]}))
    for _ in range(1000):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0)
    writer.close()
    yield port
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def exchange(port: int, data: bytes) -> bytes:
    """All that comes back for `data`, which is all that is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return answer


async def test_requests_one_after_the_other() -> None:
    async with served() as port:
        answer = await exchange(port, b"\r\n".join(REQUESTS))
    text = answer.decode()
    assert text.count("HTTP/1.1 200 OK\r\n") == 3
    assert text.count('"pod": "web-1"') == 2
    assert '"body_bytes": 6' in text and '"body_bytes": 5' in text
    assert "Connection: close" in text and "/never" not in text


@pytest.mark.parametrize("data", [b"\0\1\2", b"GETTING", b"P", b"", b"x" * 300_000, b"HEADS or tails\n"])
async def test_other_bytes_come_back(data: bytes) -> None:
    async with served() as port:
        assert await exchange(port, data) == data


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n", b"GET /", b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n",
    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
])  # fmt: skip
async def test_half_a_request_ends_the_connection(data: bytes) -> None:
    async with served() as port:
        assert await exchange(port, data) == b""
        assert b"200 OK" in await exchange(port, b"GET / HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", 4), ("[::1]", 6)])
async def test_client_tells_both_ends_of_the_story(host: str, family: int) -> None:
    async with served() as port:
        reply = await asyncio.to_thread(client.ask, f"http://{host}:{port}/x", "hello" * 100)
    address = "127.0.0.1" if family == 4 else "::1"
    assert (reply["status"], reply["local"], reply["peer"]) == (200, address, address)
    request = reply["answer"]["request"]
    assert request["line"] == "POST /x HTTP/1.1"
    assert request["body_bytes"] == 500
    assert request["headers"]["x-marker"] == "hello" * 12
    assert request["to"] == f"{host}:{port}"
    assert json.dumps(reply)


async def test_client_names_what_went_wrong() -> None:
    assert client.ask(f"http://127.0.0.1:{free_port()}/", "") == {"error": "ECONNREFUSED"}

    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reply = await asyncio.to_thread(client.ask, f"http://127.0.0.1:{port}/", "")
    assert reply["error"].startswith("BadStatusLine")
    server.close()
