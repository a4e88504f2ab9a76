"""To wait, in the event loop, for a descriptor that is not asyncio's own."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def readable(descriptor: int | socket.socket) -> Iterator[asyncio.Event]:
    """Set as often as there is something to read, until the end of a `with`."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        yield event
    finally:
        loop.remove_reader(descriptor)
