"""Lets the lab's nodes reach an API server that is outside of the lab's network. Stdlib only.

    python -m agent.lab.gateway HOST PORT LISTEN_PORT NETNS...

Listens on 127.0.0.1 inside each network namespace, and hands on what it hears from its own; TLS is the ends'.
"""

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

from agent.lab import kernel

_CHUNK = 1 << 16


async def serve(host: str, port: int, listeners: list[socket.socket]) -> None:
    """Connect each that comes to the server, until cancelled."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(host, port)
            with contextlib.closing(back):
                ways = {asyncio.create_task(_carry(reader, back)), asyncio.create_task(_carry(there, writer))}
                await asyncio.wait(ways)

    servers = [await asyncio.start_server(connected, sock=listener) for listener in listeners]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        target.write_eof()
    except OSError:
        target.close()  # what ended badly here ends badly there


def main(host: str, port: str, listen: str, *namespaces: str) -> None:
    def listener() -> socket.socket:
        return socket.create_server(("127.0.0.1", int(listen)), backlog=256)

    listeners = [kernel.in_netns(Path(namespace), listener) for namespace in namespaces]
    asyncio.run(serve(host, int(port), listeners))


if __name__ == "__main__":
    main(*sys.argv[1:])
