"""The agent's end of the CNI plugin (`cni/`): the container runtime's calls, one to a connection.

The plugin sends one JSON object and closes its direction; the answer is one with `code`, `msg` and `details`,
the CNI specification's error, where code 0 means that the runtime may go on. Only root may ask.
"""

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Struct

from agent import unix
from agent.errors import WarrenError, describe
from agent.model.schema.objects import to_address
from agent.node.sandboxes import Attachment

log = logging.getLogger(__name__)

_UNDECODABLE, _TRY_LATER, _UNAVAILABLE = 6, 11, 50  # error codes of the specification
_REQUEST = 5.0  # seconds for the plugin to say what it wants
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_BACKLOG = 512  # a node that boots starts all of its pods at once

# \Z: "$" would let a line end follow.
Container = Annotated[str, msgspec.Meta(pattern=r"^([a-zA-Z0-9][a-zA-Z0-9_.\-]*)?\Z", max_length=200)]


class Pods(Protocol):
    """What the calls do; all but `ready` and `unready` raise WarrenError."""

    @property
    def ready(self) -> bool: ...
    def unready(self) -> str: ...
    async def attach(self, attachment: Attachment) -> None: ...
    async def check(self, attachment: Attachment) -> None: ...
    async def detach(self, container: str) -> None: ...
    async def keep(self, containers: set[str]) -> None: ...


class _Interface(Struct):
    sandbox: str = ""


class _Address(Struct):
    address: str  # with the length of its prefix
    interface: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Result(Struct):
    """What the plugins before ours made."""

    interfaces: list[_Interface] = []
    ips: list[_Address] = []

    def of_pod(self) -> tuple[str, ...]:
        """The pod's addresses. Those on the host's end of its link are listed as well by some plugins."""
        return tuple(
            str(to_address(ip.address.partition("/")[0]))
            for ip in self.ips
            if ip.interface is None or self.interfaces[ip.interface].sandbox
        )


class _Known(Struct, rename={"container": "containerID"}):
    container: str


class _Call(Struct):
    command: Literal["ADD", "CHECK", "DEL", "GC", "STATUS"]
    container: Container = ""
    netns: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    result: _Result | None = None
    attachments: list[_Known] | None = None

    def __post_init__(self) -> None:
        if self.command in ("ADD", "CHECK", "DEL") and not self.container:
            raise ValueError(f"{self.command} names no container")

    def attachment(self) -> Attachment:
        """Raises ValueError for what is no address, IndexError for an interface that is not listed."""
        ips = self.result.of_pod() if self.result else ()
        netns = Path(self.netns)
        return Attachment(self.container, self.namespace, self.name, self.uid, netns, ips, time.time_ns())


class Answer(Struct):
    """`details` name the remedy."""

    code: int = 0
    msg: str = ""
    details: str = ""


class CniServer:
    """Answers the plugin. What it says to ADD decides whether a pod starts."""

    def __init__(self, path: Path, pods: Pods) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()  # by command and how they ended
        self.held = 0.0  # seconds for which ADD was held, in all
        self._path = path
        self._pods = pods
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, with mode 0600. Raises SettingsError."""
        self._server = await unix.listen(self._path, self._serve, _BACKLOG)

    async def stop(self) -> None:
        """Hang up on those who wait: the plugin asks again, whoever is the agent then."""
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with contextlib.suppress(OSError, TimeoutError), contextlib.closing(writer):
            peer = writer.get_extra_info("socket")
            _, user, _ = _CREDENTIALS.unpack(
                peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if user != 0:
                log.warning("refused a CNI request from user %d: only root may send one", user)
                return
            async with asyncio.timeout(_REQUEST):
                request = await reader.read(-1)
            writer.write(msgspec.json.encode(await self._answer(request)))
            await writer.drain()

    async def _answer(self, request: bytes) -> Answer:
        try:
            call = msgspec.json.decode(request, type=_Call)
            attachment = call.attachment()
        except (msgspec.MsgspecError, ValueError, IndexError, RecursionError) as error:
            details = "plugin and agent may be of different versions: restart the agent, it installs its own"
            return Answer(_UNDECODABLE, f"the agent does not understand the call: {error}", details)
        begun = time.monotonic()
        try:
            answer = await self._done(call, attachment)
            self.calls[call.command, "done" if answer.code == 0 else "refused"] += 1
            return answer
        except (WarrenError, OSError) as error:
            self.calls[call.command, "refused"] += 1
            subject = f"pod {attachment}" if call.name else "sandboxes"
            log.warning("CNI %s, %s: %s", call.command, subject, describe(error))
            details = "this is tried again; if it lasts, see the log of Warren's agent on this node"
            return Answer(_TRY_LATER, str(error), details)
        finally:
            self.held += time.monotonic() - begun if call.command == "ADD" else 0

    async def _done(self, call: _Call, attachment: Attachment) -> Answer:
        match call.command:
            case "STATUS" if not self._pods.ready:
                return Answer(_UNAVAILABLE, "Warren's agent is starting", self._pods.unready())
            case "ADD":
                await self._pods.attach(attachment)
            case "CHECK":
                await self._pods.check(attachment)
            case "DEL":
                await self._pods.detach(call.container)
            case "GC" if call.attachments is not None:
                await self._pods.keep({known.container for known in call.attachments})
        return Answer()
