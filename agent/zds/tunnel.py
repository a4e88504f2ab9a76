"""One tunnel's side of the conversation: what it has been told, what it answered, what to tell it next."""

import array
import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct

from agent.errors import WarrenError
from protocols.zds_pb2 import (
    V1,
    AddWorkload,
    SnapshotSent,
    WorkloadInfo,
    WorkloadRequest,
    WorkloadResponse,
    ZdsHello,
)

log = logging.getLogger(__name__)

_PACKET = 64 * 1024
_HELLO = 5.0  # seconds for a tunnel to say hello
_ANSWER = 30.0  # seconds for a tunnel to open its listeners in a pod


class HasDescriptor(Protocol):
    """An open network namespace."""

    def fileno(self) -> int: ...


class Local(Struct, frozen=True):
    """A pod of this node. `uid` is opaque; with another `netns` it is another pod."""

    uid: str
    name: str
    namespace: str
    service_account: str
    netns: HasDescriptor


class TunnelError(WarrenError):
    """A tunnel that does not keep to the protocol, or is gone."""


class Tunnel:
    """`greet` it, then `follow` the pods; `look_at` a pod that is new, different or gone."""

    def __init__(
        self, connection: socket.socket, pid: int, pods: Mapping[str, Local], staying: Set[str] = frozenset()
    ) -> None:
        """`pods` are those that it should know; what is open of those that are `staying` may go on.

        Both are read again each time.
        """
        connection.setblocking(False)
        self.pid = pid
        self.refused: dict[str, str] = {}  # by uid, why
        self._connection = connection
        self._pods = pods
        self._staying = staying
        self._told: dict[str, Local] = {}  # by uid, whatever it answered
        self._due = dict.fromkeys(pods)  # uids to look at, in order; the first one is under way
        self._news = asyncio.Event()
        self._answer: asyncio.Future[WorkloadResponse] | None = None

    async def greet(self) -> None:
        """Wait for its hello. Raises TunnelError, OSError."""
        try:
            async with asyncio.timeout(_HELLO):
                hello = ZdsHello.FromString(await self._receive())
        except TimeoutError:
            raise TunnelError(f"it said no hello within {_HELLO:.0f} s") from None
        except DecodeError:
            raise TunnelError("its hello is no ZdsHello") from None
        if hello.version != V1:
            raise TunnelError(f"it speaks version {hello.version} of the protocol, we speak {V1}")

    async def follow(self, progress: Callable[[], Awaitable[None]]) -> None:
        """Tell it of all pods and of every change; calls `progress` after each answer. Raises, in the end."""
        reading = asyncio.create_task(self._read())
        telling = asyncio.create_task(self._tell(progress))
        try:
            await asyncio.wait({reading, telling}, return_when=asyncio.FIRST_COMPLETED)
            for task in (telling, reading):
                if task.done():
                    await task
        finally:
            reading.cancel()
            telling.cancel()
            await asyncio.gather(reading, telling, return_exceptions=True)

    def look_at(self, uid: str) -> None:
        """The pod of that uid is new, different or gone, or is to be tried again."""
        self._due[uid] = None
        self._news.set()

    def knows(self, uid: str) -> bool:
        """Whether it has answered on that pod as it is now."""
        return uid not in self._due and self._told.get(uid) == self._pods.get(uid)

    async def _tell(self, progress: Callable[[], Awaitable[None]]) -> None:
        snapshot_sent = False
        while True:
            self._news.clear()
            while self._due:
                uid = next(iter(self._due))
                await self._tell_of(uid)
                if self._told.get(uid) == self._pods.get(uid):
                    del self._due[uid]
                await progress()
            if not snapshot_sent:
                snapshot_sent = True
                await self._ask(WorkloadRequest(snapshot_sent=SnapshotSent()))
                continue
            await self._news.wait()

    async def _tell_of(self, uid: str) -> None:
        pod, told = self._pods.get(uid), self._told.get(uid)
        if pod == told and uid not in self.refused:
            return
        self.refused.pop(uid, None)
        if pod is None:
            request = WorkloadRequest()
            gone = getattr(request, "del")
            gone.uid, gone.drain = uid, uid in self._staying
            error = await self._ask(request)
            self._told.pop(uid)
        else:
            info = WorkloadInfo(name=pod.name, namespace=pod.namespace, service_account=pod.service_account)
            add = AddWorkload(uid=uid, workload_info=info)
            error = await self._ask(WorkloadRequest(add=add), pod.netns)
            self._told[uid] = pod
            if error:
                self.refused[uid] = error
        if error:
            log.warning("tunnel %d refused pod %s: %s", self.pid, uid, error)

    async def _ask(self, request: WorkloadRequest, netns: HasDescriptor | None = None) -> str:
        """Send a message and give the answer's error, empty when it is done."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [netns.fileno()]))] if netns else []
        self._answer = asyncio.get_running_loop().create_future()
        # One message is under way at a time, so that the socket's buffer has always room for it.
        self._connection.sendmsg([request.SerializeToString()], rights)
        try:
            async with asyncio.timeout(_ANSWER):
                return (await self._answer).ack.error
        except TimeoutError:
            raise TunnelError(f"no answer within {_ANSWER:.0f} s") from None
        finally:
            self._answer = None

    async def _read(self) -> None:
        while True:
            try:
                answer = WorkloadResponse.FromString(await self._receive())
            except DecodeError:
                raise TunnelError("its answer is no WorkloadResponse") from None
            if self._answer is None or self._answer.done():
                raise TunnelError("it answered what it was not asked")
            self._answer.set_result(answer)

    async def _receive(self) -> bytes:
        packet = await asyncio.get_running_loop().sock_recv(self._connection, _PACKET)
        if not packet:
            raise TunnelError("it closed the connection")
        return packet
