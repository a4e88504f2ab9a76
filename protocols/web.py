"""The HTTP/1.1 server of agent, authority and tunnel: as much as probes, scrapes, the CLI and the map need.

One request for each connection. It needs the standard library alone, for the tunnel's sake.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
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
EVENTS = "text/event-stream"
_NONE: Mapping[str, str] = MappingProxyType({})


class Request(NamedTuple):
    """What is asked; of a query the last value of each name. headers: by their names in lower case."""

    query: Mapping[str, str]
    body: bytes
    path: str = ""
    headers: Mapping[str, str] = _NONE


class Response(NamedTuple):
    """What is answered. type: of the content, as in its header; headers: beside those of every answer.

    A body that comes in parts goes on until there are no more, or the client has left.
    """

    body: str | bytes | AsyncIterator[str]
    type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = _NONE


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]  # by method and path
Guard = Callable[[Request], Request | Response]  # the request to be answered, or a refusal


async def serve(
    routes: Routes, address: str, port: int, largest_body: int = 0, guard: Guard | None = None
) -> asyncio.Server:
    """Answer on an address until the server is closed. Raises OSError when it cannot be listened on."""
    answering = connection(routes, largest_body, guard)
    return await asyncio.start_server(answering, address, port, limit=_LARGEST_REQUEST)


def connection(
    routes: Routes, largest_body: int = 0, guard: Guard | None = None
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What answers one connection of a server.

    largest_body: bytes of a request's body beyond which it is none. guard: sees each request first.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = _request_line(head)
                body = await reader.readexactly(_body_length(head, largest_body))
            path, _, query = target.partition("?")
            request = Request(dict(parse_qsl(query, keep_blank_values=True)), body, path, _headers(head))
            passed = guard(request) if guard else request
            response = passed if isinstance(passed, Response) else await _answer(routes, method, passed)
            async with asyncio.timeout(_TIMEOUT):
                writer.write(_encode(response, with_body=method != "HEAD"))
                await writer.drain()
            if not isinstance(response.body, str | bytes) and method != "HEAD":
                await _go_on(response.body, reader, writer)
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


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:-2])
    return {name.decode("latin-1").lower(): value.strip().decode("latin-1") for name, _, value in lines}


async def _answer(routes: Routes, method: str, request: Request) -> Response:
    path = request.path
    handler = routes.get(("GET" if method == "HEAD" else method, path))
    if handler:
        return await handler(request)
    if allowed := [known for known, place in routes if place == path]:
        return Response(f"use {' or '.join(allowed)}\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
    paths = "\n".join(f"{known} {place}" for known, place in routes)
    return Response(f"there is no {path}; there is:\n{paths}\n", status=HTTPStatus.NOT_FOUND)


async def _go_on(
    parts: AsyncIterator[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Until there is no more, the client has left, or reads too slowly."""
    left = asyncio.create_task(reader.read(1))  # a client sends nothing more: this ends when it leaves
    coming: asyncio.Future[str] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(parts))
            await asyncio.wait({left, coming}, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                return
            writer.write(coming.result().encode())
            async with asyncio.timeout(_TIMEOUT):
                await writer.drain()
    except StopAsyncIteration:
        return
    finally:
        for task in (left, coming):
            if task:
                task.cancel()


def _encode(response: Response, with_body: bool) -> bytes:
    body = response.body.encode() if isinstance(response.body, str) else response.body
    headers = {"Content-Type": response.type, "Connection": "close", **response.headers}
    if isinstance(body, bytes):
        headers["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n{lines}\r\n".encode()
    return head + body if with_body and isinstance(body, bytes) else head
