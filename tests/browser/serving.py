"""The map of a mesh that a test tells about, in a thread of its own."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.dashboard.board import Board
from agent.dashboard.look import Look
from agent.dashboard.site import Site

TOKEN = "t" * 43


@contextmanager
def served(look: Callable[[], Look]) -> Iterator[str]:
    """The link. look: what a node sees in each second."""
    told: queue.SimpleQueue[tuple[str, Callable[[], object]]] = queue.SimpleQueue()

    async def run() -> None:
        board, stopping = Board(), asyncio.Event()
        site = Site(board, TOKEN)

        async def feed() -> None:
            while True:
                board.take(look())
                await asyncio.sleep(1)

        server = await site.serve(0)
        tasks = [asyncio.create_task(feed()), asyncio.create_task(site.run())]
        loop = asyncio.get_running_loop()
        told.put((site.link, lambda: loop.call_soon_threadsafe(stopping.set)))
        await stopping.wait()
        server.close()
        for task in tasks:
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    link, stop = told.get(timeout=10)
    try:
        yield link
    finally:
        stop()
        thread.join(10)
