"""The HTTP/1.1 server of agent, authority and tunnel: as much as probes, scrapes and the CLI need.

One request for each connection. It needs the standard library alone, for the tunnel's sake.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

log = logging.getLogger("warren.http")

_LARGEST_REQUEST = 16 * 1024  # without its body
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)
_TIMEOUT = 5.0  # seconds for a request to arrive, and for its answer to leave
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Request(NamedTuple):
    """What is asked; of a query the last value of each name."""

    query: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """What is answered. type: of the content, as in its header."""

    body: str
    type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]  # by method and path


async def serve(routes: Routes, address: str, port: int, largest_body: int = 0) -> asyncio.Server:
    """Answer on an address until the server is closed. Raises OSError when it cannot be listened on."""
    return await asyncio.start_server(connection(routes, largest_body), address, port, limit=_LARGEST_REQUEST)


def connection(
    routes: Routes, largest_body: int = 0
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What answers one connection of a server.

    largest_body: bytes of a request's body beyond which it is none.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = _request_line(head)
                body = await reader.readexactly(_body_length(head, largest_body))
            path, _, query = target.partition("?")
            request = Request(dict(parse_qsl(query, keep_blank_values=True)), body)
            response = await _answer(routes, method, path, request)
            async with asyncio.timeout(_TIMEOUT):
                writer.write(_encode(response, with_body=method != "HEAD"))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            log.debug("a request that was none, or a client that left")
        finally:
            writer.close()

    return connected


def _request_line(head: bytes) -> tuple[str, str]:
    """Method and target. Raises ValueError."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    return method, target


def _body_length(head: bytes, largest: int) -> int:
    """Bytes. Raises ValueError."""
    match = _LENGTH.search(head)
    length = int(match[1]) if match else 0
    if length > largest:
        raise ValueError(f"a body of {length} bytes")
    return length


async def _answer(routes: Routes, method: str, path: str, request: Request) -> Response:
    handler = routes.get(("GET" if method == "HEAD" else method, path))
    if handler:
        return await handler(request)
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
