"""A container runtime's CRI that knows what a test tells it: the two calls that the agent makes.

That a real one answers like this is what tests/agent/node/test_containerd.py is for.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from protocols import cri_pb2 as cri


@dataclass
class Runtime:
    """`sandboxes` by id; `info`: what it says of one, else that of containerd."""

    sandboxes: dict[str, cri.PodSandboxStatus] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    info: str = ""
    asked: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)  # listed, but gone when they are asked for

    def add(self, name: str, netns: Path, uid: str = "", ips: tuple[str, ...] = (), attempt: int = 0) -> None:
        """A sandbox that is ready."""
        pod = cri.PodSandboxMetadata(
            name=name, namespace="default", uid=uid or f"uid-{name}", attempt=attempt
        )
        network = cri.PodSandboxNetworkStatus(
            ip=ips[0] if ips else "", additional_ips=[cri.PodIP(ip=ip) for ip in ips[1:]]
        )
        identity = f"{name}-{attempt}"
        self.sandboxes[identity] = cri.PodSandboxStatus(id=identity, metadata=pod, network=network)
        self.places[identity] = netns

    async def ListPodSandbox(self, request: Any, _: object) -> Message:
        assert request.filter.HasField("state")
        items = [
            cri.PodSandbox(id=one.id, metadata=one.metadata, created_at=1 + one.metadata.attempt)
            for one in self.sandboxes.values()
            if one.state == request.filter.state.state
        ]
        return cri.ListPodSandboxResponse(items=items)

    async def PodSandboxStatus(self, request: Any, context: Any) -> Message:
        self.asked.append(request.pod_sandbox_id)
        if request.pod_sandbox_id in self.hidden:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such sandbox")
        assert request.verbose
        namespaces = [{"type": "pid"}, {"type": "network", "path": str(self.places[request.pod_sandbox_id])}]
        info = {"pid": 0, "runtimeSpec": {"linux": {"namespaces": namespaces}}, "later": {}}
        status = self.sandboxes[request.pod_sandbox_id]
        return cri.PodSandboxStatusResponse(status=status, info={"info": self.info or json.dumps(info)})


@asynccontextmanager
async def serving(runtime: Runtime, path: Path) -> AsyncIterator[None]:
    """The runtime at a socket."""
    server = grpc.aio.server()
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(runtime, name),
            getattr(cri, f"{name}Request").FromString,
            getattr(cri, f"{name}Response").SerializeToString,
        )
        for name in ("ListPodSandbox", "PodSandboxStatus")
    }
    service = grpc.method_handlers_generic_handler("runtime.v1.RuntimeService", handlers)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
