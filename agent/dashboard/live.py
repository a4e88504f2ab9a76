"""The map of one node, in its agent: read from the tunnel as long as somebody looks at it."""

import asyncio
from pathlib import Path

from agent.dashboard.board import Board
from agent.dashboard.reader import INTERVAL, Reader
from agent.dashboard.site import Site, kept_token

_TOKEN = "dashboard.token"


class NodeMap:
    """Costs nothing before the page is opened, and from a quarter of an hour after it was closed."""

    def __init__(self, node: str, run_dir: Path) -> None:
        """Raises OSError when the token cannot be kept."""
        self._board = Board()
        self._reader = Reader(node)
        self._site = Site(self._board, kept_token(run_dir / _TOKEN))

    @property
    def link(self) -> str:
        """What a browser opens."""
        return self._site.link

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on loopback. Raises SettingsError."""
        return await self._site.serve(port)

    async def run(self) -> None:
        """Never ends."""
        await asyncio.gather(self._read(), self._site.run())

    async def _read(self) -> None:
        while True:
            if self._site.watched:
                self._board.take(await asyncio.to_thread(self._reader.look))
            else:
                self._board.rest()
            await asyncio.sleep(INTERVAL)
