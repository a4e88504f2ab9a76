"""The container runtime's own list of sandboxes, from its CRI socket: where the pods are that nobody told of.

The protocol has no field for a network namespace. containerd and CRI-O give it in the verbose status, as JSON
with the sandbox's OCI specification and the id of its first process.
"""

import asyncio
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message
from msgspec import Struct

from agent.model.schema.objects import to_address
from agent.node.errors import NodeError
from agent.node.sandboxes import Attachment
from protocols import cri_pb2 as cri

_ANSWER = 10.0  # seconds
_AT_ONCE = 16  # questions
_READY = cri.PodSandboxFilter(state=cri.PodSandboxStateValue(state=cri.SANDBOX_READY))


class CriError(NodeError):
    """The runtime cannot be asked, or says what we do not understand."""


class _Gone(CriError):
    """A sandbox that was there when they were listed."""


class _Namespace(Struct):
    type: str
    path: str = ""


class _Linux(Struct):
    namespaces: list[_Namespace] = []


class _Spec(Struct):
    linux: _Linux = msgspec.field(default_factory=_Linux)


class _Info(Struct):
    pid: int = 0
    spec: _Spec = msgspec.field(name="runtimeSpec", default_factory=_Spec)

    def places(self, proc: Path) -> Iterator[Path]:
        """Where the network namespace may be seen from here: as the runtime has it, or by a process."""
        for namespace in self.spec.linux.namespaces:
            if namespace.type == "network" and namespace.path:
                yield Path(namespace.path)
                if self.pid:
                    yield proc / f"{self.pid}/ns/net"


class Cri:
    """The runtime behind one socket, such as /run/containerd/containerd.sock."""

    def __init__(self, path: Path, proc: Path = Path("/proc")) -> None:
        """proc: where the host's processes are shown."""
        self._path = path
        self._proc = proc
        self._channel = grpc.aio.insecure_channel(f"unix:{path}")

    async def sandboxes(self, pods: Container[tuple[str, str]]) -> list[Attachment]:
        """Those of pods with these namespaces and names that are ready and have a network of their own.

        Raises CriError.
        """
        listed = await self._ask("ListPodSandbox", cri.ListPodSandboxRequest(filter=_READY))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def find(sandbox: cri.PodSandbox) -> Attachment | None:
            async with gate:
                return await self._find(sandbox)

        wanted = [one for one in listed.items if (one.metadata.namespace, one.metadata.name) in pods]
        found = await asyncio.gather(*map(find, wanted))
        return [attachment for attachment in found if attachment]

    async def close(self) -> None:
        await self._channel.close()

    async def _find(self, sandbox: cri.PodSandbox) -> Attachment | None:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox.id, verbose=True)
        try:
            response = await self._ask("PodSandboxStatus", request)
        except _Gone:
            return None
        try:
            info = msgspec.json.decode(response.info["info"] or "{}", type=_Info)
            network = response.status.network
            ips = [ip for ip in (network.ip, *(more.ip for more in network.additional_ips)) if ip]
            addresses = tuple(str(to_address(ip)) for ip in ips)
        except (msgspec.MsgspecError, ValueError) as error:
            raise CriError(f"{self._path}: the status of sandbox {sandbox.id}: {error}") from error
        place = next((path for path in info.places(self._proc) if path.exists()), None)
        if place is None:
            return None
        pod = sandbox.metadata
        return Attachment(sandbox.id, pod.namespace, pod.name, pod.uid, place, addresses, sandbox.created_at)

    async def _ask(self, method: str, request: Message) -> Any:
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            type(request).SerializeToString,
            getattr(cri, f"{method}Response").FromString,
        )
        try:
            return await call(request, timeout=_ANSWER)
        except grpc.aio.AioRpcError as error:
            kind = _Gone if error.code() is grpc.StatusCode.NOT_FOUND else CriError
            raise kind(f"--cri-socket {self._path}: {error.details() or error.code().name}") from error
