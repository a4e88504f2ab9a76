"""A tunnel as the ZDS server sees one, on a real SEQPACKET socket."""

import asyncio
import os
import socket
from pathlib import Path
from types import TracebackType

from protocols.zds_pb2 import V1, Ack, Version, WorkloadRequest, WorkloadResponse, ZdsHello
from tests.support.wait import PATIENCE


class Client:
    """Connects and says hello; `hear` messages and `answer` them."""

    def __init__(self, path: Path, hello: bytes | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(str(path))
        self._socket.setblocking(False)
        self._socket.send(ZdsHello(version=V1).SerializeToString() if hello is None else hello)
        self.netns: list[os.stat_result] = []  # of the descriptors that came, in order

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()

    async def hear(self) -> WorkloadRequest | None:
        """The next message; None when the server has closed."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket.fileno(), readable.set)
        try:
            await asyncio.wait_for(readable.wait(), PATIENCE)
        finally:
            loop.remove_reader(self._socket.fileno())
        packet, descriptors, _, _ = socket.recv_fds(self._socket, 1024, 4)
        for descriptor in descriptors:
            self.netns.append(os.fstat(descriptor))
            os.close(descriptor)
        return WorkloadRequest.FromString(packet) if packet else None

    def answer(self, error: str = "") -> None:
        self._socket.send(WorkloadResponse(ack=Ack(error=error)).SerializeToString())

    def send(self, packet: bytes) -> None:
        self._socket.send(packet)

    async def told(self, error: str = "") -> str:
        """The next message in short, answered at once: `add UID`, `del UID`, `snapshot` or `closed`."""
        request = await self.hear()
        if request is None:
            return "closed"
        self.answer(error)
        match request.WhichOneof("payload"):
            case "add":
                return f"add {request.add.uid}"
            case "del":
                return f"del {getattr(request, 'del').uid}"
            case _:
                return "snapshot"


WRONG_VERSION = ZdsHello(version=Version.NOT_USED).SerializeToString() or b"\x08\x00"


def snapshot(path: Path) -> list[str]:
    """What a tunnel in this process is told first, everything answered."""

    async def run() -> list[str]:
        with Client(path) as client:
            told = []
            while (one := await client.told()) not in ("snapshot", "closed"):
                told.append(one)
            return told

    return asyncio.run(run())
