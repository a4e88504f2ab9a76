"""As much of an HTTP/1.1 server as probes and scrapes need: one request for each connection, no bodies."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

log = logging.getLogger("warren.http")

_LARGEST_REQUEST = 16 * 1024
_TIMEOUT = 5.0  # seconds for a request to arrive, and for its answer to leave
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Response(NamedTuple):
    """What is answered."""

    body: str
    type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK


Handler = Callable[[], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]  # by method and path


async def serve(routes: Routes, address: str, port: int) -> asyncio.Server:
    """Answer on an address until the server is closed. Raises OSError when it cannot be listened on."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            method, path = _request_line(head)
            response = await _answer(routes, method, path)
            async with asyncio.timeout(_TIMEOUT):
                writer.write(_encode(response, with_body=method != "HEAD"))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            log.debug("a request that was none, or a client that left")
        finally:
            writer.close()

    return await asyncio.start_server(connected, address, port, limit=_LARGEST_REQUEST)


def _request_line(head: bytes) -> tuple[str, str]:
    """Method and path, without its query. Raises ValueError."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    return method, target.partition("?")[0]


async def _answer(routes: Routes, method: str, path: str) -> Response:
    handler = routes.get(("GET" if method == "HEAD" else method, path))
    if handler:
        return await handler()
    if allowed := [known for known, place in routes if place == path]:
        return Response(f"use {' or '.join(allowed)}\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
    paths = "\n".join(f"{known} {place}" for known, place in routes)
    return Response(f"there is no {path}; there is:\n{paths}\n", status=HTTPStatus.NOT_FOUND)


def _encode(response: Response, with_body: bool) -> bytes:
    body = response.body.encode()
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\nContent-Type: {response.type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
