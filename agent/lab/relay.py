"""Connections handed on between the lab's network and the machine's own. Stdlib only.

    python -m agent.lab.relay out HOST PORT LISTEN_PORT NETNS...
    python -m agent.lab.relay in NETNS LISTEN_PORT:PORT...

`out` lets the lab's nodes reach an API server that is outside: it listens on 127.0.0.1 inside each network
namespace. `in` lets the machine reach a gateway: it listens on 127.0.0.1, and connects to 127.0.0.1 inside
the namespace.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.lab import kernel

_CHUNK = 1 << 16
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def serve(connect: Connect, listener: socket.socket) -> None:
    """Connect each that comes, until cancelled."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            there, back = await connect()
            with contextlib.closing(back):
                ways = {asyncio.create_task(_carry(reader, back)), asyncio.create_task(_carry(there, writer))}
                await asyncio.wait(ways)

    server = await asyncio.start_server(connected, sock=listener)
    await server.serve_forever()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        target.write_eof()
    except OSError:
        target.close()  # what ended badly here ends badly there


async def lead_out(host: str, port: str, listen: str, *namespaces: str) -> None:
    def connect() -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return asyncio.open_connection(host, port)

    def listener() -> socket.socket:
        return socket.create_server(("127.0.0.1", int(listen)), backlog=256)

    listeners = [kernel.in_netns(Path(namespace), listener) for namespace in namespaces]
    await asyncio.gather(*(serve(connect, one) for one in listeners))


async def lead_in(namespace: str, *ports: str) -> None:
    def to(port: int) -> Connect:
        def dial() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port))

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            sock = await asyncio.to_thread(kernel.in_netns, Path(namespace), dial)
            return await asyncio.open_connection(sock=sock)

        return connect

    pairs = [tuple(map(int, pair.split(":"))) for pair in ports]
    listeners = [(socket.create_server(("127.0.0.1", own), backlog=256), to(port)) for own, port in pairs]
    await asyncio.gather(*(serve(connect, listener) for listener, connect in listeners))


def main(way: str, *arguments: str) -> None:
    asyncio.run(lead_in(*arguments) if way == "in" else lead_out(*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
