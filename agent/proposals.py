"""The agent's end of `warren authz`: what manifests would change, and which object makes a pod STRICT.

One question for each connection: JSON, an array of files or an object that names a pod, and then its end.
Only root may ask.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent import unix
from agent.errors import WarrenError
from agent.sources.proposal import File, Proposal

_REQUEST = 5.0  # seconds for a client to say what it wants
_ANSWER = 60.0  # seconds: a policy may concern all pods of a large mesh
T = TypeVar("T")


class Whose(Struct, frozen=True):
    """Which PeerAuthentication decides for a pod?"""

    namespace: str
    name: str


Propose = Callable[[list[File]], Awaitable[Proposal]]
Decide = Callable[[Whose], str]


class NoAgent(WarrenError):
    """Nobody answers."""

    exit_code = 2


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


def ask(path: Path, files: list[File]) -> Proposal:
    """What the agent makes of files. Raises NoAgent."""
    return _ask(path, files, Proposal)


def deciding(path: Path, pod: Whose) -> str:
    """The PeerAuthentication that decides for a pod, as `namespace/name`; empty: none. Raises NoAgent."""
    return _ask(path, pod, str)


def _ask(path: Path, question: list[File] | Whose, kind: type[T]) -> T:
    remedy = "start the agent and wait until it is ready, or name its --run-dir"
    try:
        with socket(AF_UNIX) as connection:
            connection.settimeout(_ANSWER)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(question))
            connection.shutdown(SHUT_WR)
            with connection.makefile("rb") as answer:
                return msgspec.json.decode(answer.read(), type=kind)
    except OSError as error:
        raise NoAgent(f"no agent answers at {path}: {error.strerror or error}; {remedy}") from error
    except msgspec.MsgspecError as error:
        raise NoAgent(f"the agent at {path} is of another version than this program: {error}") from error
