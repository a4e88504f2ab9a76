"""The agent's end of `warren authz`: what manifests would change, and which object makes a pod STRICT.

One question for each connection: JSON, an array of files or an object that names a pod, and then its end.
Only root may ask.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from agent import unix
from protocols.proposal import File, Proposal, Whose

_REQUEST = 5.0  # seconds for a client to say what it wants
Propose = Callable[[list[File]], Awaitable[Proposal]]
Decide = Callable[[Whose], str]


class ProposalServer:
    """Answers at a Unix socket."""

    def __init__(self, path: Path, propose: Propose, decide: Decide) -> None:
        self._path = path
        self._propose = propose
        self._decide = decide
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, with mode 0600. Raises SettingsError."""
        self._server = await unix.listen(self._path, self._serve)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, msgspec.MsgspecError), contextlib.closing(writer):
            async with asyncio.timeout(_REQUEST):
                asked = msgspec.json.decode(await reader.read(-1), type=list[File] | Whose)
            answer = self._decide(asked) if isinstance(asked, Whose) else await self._propose(asked)
            writer.write(msgspec.json.encode(answer))
            await writer.drain()
