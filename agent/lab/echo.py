"""A pod's stand-in for the containers whose images cannot be pulled: a server on each TCP port. Stdlib only.

    python echo.py '{"pod": ..., "ports": [8080, ...], ...}'

To an HTTP/1 request it answers JSON: the facts it was given (all but the ports), and as "request" what it
received and between which addresses. Bytes that do not begin as an HTTP request does come back as they are,
until the client has sent its last. It listens on IPv4 and IPv6.
"""

import asyncio
import json
import sys
from typing import Any

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"TRACE ")
CHUNK = 1 << 16
BACKLOG = 4096


class Reader:
    """A stream of which the first bytes can be looked at before they are taken."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self.stream, self.buffer = stream, b""

    async def more(self) -> bool:
        chunk = await self.stream.read(CHUNK)
        self.buffer += chunk
        return bool(chunk)

    async def is_http(self) -> bool:
        """Whether a request line begins here; decided as soon as the bytes that are there allow it."""
        while not any(self.buffer.startswith(method) for method in METHODS):
            undecided = any(method.startswith(self.buffer) for method in METHODS)
            if not undecided or not await self.more():
                return False
        return True

    async def line(self) -> bytes | None:
        while b"\n" not in self.buffer:
            if not await self.more():
                return None
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")

    async def skip(self, count: int) -> int:
        """Take so many bytes (fewer at the end of the stream) and say how many it were."""
        taken = 0
        while taken < count:
            if not self.buffer and not await self.more():
                break
            step = len(self.buffer[: count - taken])
            self.buffer = self.buffer[step:]
            taken += step
        return taken


async def request(reader: Reader) -> tuple[str, dict[str, str], int] | None:
    """One HTTP/1 request: its first line, its headers (names in lower case) and the size of its body."""
    first = await reader.line()
    headers: dict[str, str] = {}
    while first is not None and (line := await reader.line()) != b"":
        if line is None:
            return None
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if first is None:
        return None
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return first.decode("latin-1"), headers, await chunked_size(reader)
    return first.decode("latin-1"), headers, await reader.skip(int(headers.get("content-length", "0")))


async def chunked_size(reader: Reader) -> int:
    """Read a chunked body with its trailers (RFC 9112 section 7.1) and give its size."""
    total = 0
    while line := await reader.line():
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            while await reader.line():
                pass
            break
        total += await reader.skip(size)
        await reader.line()
    return total


def readable(address: Any) -> str:
    """A socket's address as people write it."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(facts: dict[str, Any], stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reader = Reader(stream)
    while await reader.is_http():
        received = await request(reader)
        if received is None:
            return
        line, headers, size = received
        peer, own = (readable(writer.get_extra_info(end)) for end in ("peername", "sockname"))
        facts["request"] = {"line": line, "headers": headers, "body_bytes": size, "from": peer, "to": own}
        body = json.dumps(facts, indent=2).encode() + b"\n"
        close = headers.get("connection", "").lower() == "close" or line.endswith("HTTP/1.0")
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
        )
        writer.write(head.encode() + (b"" if line.startswith("HEAD ") else body))
        await writer.drain()
        if close:
            return
    while reader.buffer or await reader.more():
        writer.write(reader.buffer)
        reader.buffer = b""
        await writer.drain()


async def main(settings: dict[str, Any]) -> None:
    ports = settings.pop("ports")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(dict(settings), reader, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, ValueError):  # the client has gone, or does not speak HTTP after all
            writer.transport.abort()

    servers = [await asyncio.start_server(connected, None, port, backlog=BACKLOG) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
