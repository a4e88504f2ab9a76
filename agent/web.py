"""The agent's own little web server: a page is a function. GET and HEAD only."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from agent.errors import SettingsError

_REQUEST = 5.0  # seconds for a client to say what it wants
_LINES = 100  # of a request, beyond which it is none


class Page(NamedTuple):
    """status: an HTTP status with its reason, like `200 OK`."""

    status: str
    text: str


Pages = Mapping[str, Callable[[], Awaitable[Page]]]


async def serve(address: str, port: int, pages: Pages) -> asyncio.Server:
    """Listen; `pages` are by path. Raises SettingsError."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(_REQUEST):
                method, path = await _request(reader)
            page = await _page(pages, method, path)
            body = page.text.encode()
            head = (
                f"HTTP/1.1 {page.status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode() + (b"" if method == "HEAD" else body))
            await writer.drain()
        writer.close()

    try:
        return await asyncio.start_server(answer, address, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"--http-address {address} --metrics-port {port}: {reason}; another port, or 0 for none"
        ) from error


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and path, with the headers read and left. Raises ValueError."""
    method, target, _ = (await reader.readline()).decode("latin-1").split()
    for _ in range(_LINES):
        if not (await reader.readline()).strip():
            return method, target.split("?", maxsplit=1)[0]
    raise ValueError("too many headers")


async def _page(pages: Pages, method: str, path: str) -> Page:
    if method not in ("GET", "HEAD"):
        return Page("405 Method Not Allowed", "GET and HEAD only\n")
    if path not in pages:
        return Page("404 Not Found", "there are " + ", ".join(sorted(pages)) + "\n")
    return await pages[path]()
