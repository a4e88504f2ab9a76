"""The agent's word on which pods there are: `istio.workload.zds` over a Unix SEQPACKET socket.

One message per packet. We say hello; the agent names its pods, then says that this was all of them, then
names changes. Each of its messages is answered before the next is read.
"""

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import NoReturn

from tunnel._core import zds_answer, zds_hello, zds_request
from tunnel.backoff import Backoff
from tunnel.counters import Counters
from tunnel.packets import PacketError, receive
from tunnel.pods import PodError, Pods
from tunnel.settings import Info

log = logging.getLogger("warren.zds")

_DESCRIPTORS = 8  # room for more than the one that is right, so that none is lost unseen


class ProtocolError(Exception):
    """The agent broke the protocol: the connection is of no more use. The text is for it and for the log."""


class ZdsClient:
    """Keeps a connection to the agent and does what it says. Pods are served on while there is none."""

    def __init__(self, path: Path, pods: Pods, counters: Counters) -> None:
        self._path = path
        self._pods = pods
        self._counters = counters
        self._backoff = Backoff(0.010, 1.0, 0.0)  # pods that start wait for this (`agent.zds.server`)
        self._named: set[str] | None = set()  # pods of the snapshot that is under way; None: it is complete

    @property
    def synced(self) -> bool:
        """Whether the agent is connected and has told of all of its pods."""
        return self._named is None

    async def run(self) -> NoReturn:
        """Connect, and again, for ever."""
        while True:
            try:
                await self._session()
            except (OSError, ProtocolError, PacketError) as error:
                log.warning("agent at %s: %s", self._path, error)
            finally:
                self._named = set()
                self._counters.zds_connected.set(0)
            self._counters.zds_ends.add()
            await asyncio.sleep(self._backoff.next())

    async def _session(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, str(self._path))
            await loop.sock_sendall(connection, zds_hello())
            log.info("connected to the agent at %s", self._path)
            self._counters.zds_connected.set(1)
            while await self._answer_one(connection):
                self._backoff.reset()
            log.warning("the agent at %s has closed the connection", self._path)

    async def _answer_one(self, connection: socket.socket) -> bool:
        """Read and answer one message; false when there are no more. Raises ProtocolError, OSError."""
        packet, descriptors = await receive(connection, _DESCRIPTORS)
        try:
            if not packet:
                return False
            try:
                await self._do(packet, descriptors)
                answer = ""
            except PodError as error:
                answer = str(error)
            except ProtocolError as error:
                await _send_answer(connection, str(error))
                raise
            await _send_answer(connection, answer)
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _do(self, packet: bytes, descriptors: list[int]) -> None:
        try:
            kind, uid, info, drain = zds_request(packet)
        except ValueError as error:
            raise ProtocolError("a message is no WorkloadRequest") from error
        if descriptors and kind != "add":
            raise ProtocolError(f"{len(descriptors)} descriptors came with {kind}, which takes none")
        match kind:
            case "add":
                await self._add(uid, info and Info(*info), descriptors)
            case "keep":
                self._keep(uid)
            case "del":
                await self._delete(uid, drain=drain)
            case "snapshot_sent":
                await self._snapshot_sent()
            case _:
                raise ProtocolError("a request of a kind that we do not know")

    async def _add(self, uid: str, info: Info | None, descriptors: list[int]) -> None:
        if len(descriptors) != 1:
            raise ProtocolError(f"{uid}: came with {len(descriptors)} descriptors, not with one")
        if info is None:
            raise ProtocolError(f"{uid}: came without workload_info")
        if self._named is not None:
            self._named.add(uid)
        await self._pods.add(uid, info, descriptors[0])

    def _keep(self, uid: str) -> None:
        if self._named is None:
            raise ProtocolError(f"{uid}: keep came after the snapshot was complete")
        if not self._pods.knows(uid):
            raise PodError(f"{uid} is not known: add it")
        self._named.add(uid)

    async def _delete(self, uid: str, *, drain: bool) -> None:
        if self._named is not None:
            self._named.discard(uid)
        await self._pods.remove(uid, drain=drain)

    async def _snapshot_sent(self) -> None:
        if self._named is None:
            raise ProtocolError("a second snapshot on one connection")
        await self._pods.keep_only(self._named)
        log.info("%d pods on this node", len(self._named))
        self._named = None


async def _send_answer(connection: socket.socket, error: str) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, zds_answer(error))
