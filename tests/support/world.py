"""A whole agent on a node of network namespaces, with a folder of manifests for its cluster."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

from msgspec.structs import replace

from agent.app import Agent
from agent.model.mesh import Mesh
from agent.node.datapath import Datapath
from agent.node.state import Cookie
from agent.settings import Settings
from tests.agent.test_web import ask
from tests.support.netns import Node, Pod
from tests.support.ports import free_port
from tests.support.wait import PATIENCE

AMBIENT = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


class World:
    """A folder and a node, on which agents run one after the other."""

    def __init__(self, root: Path, bpffs: Path) -> None:
        self.node = Node()
        self.source = root / "source"
        self.source.mkdir()
        (self.source / "mesh.yaml").write_text(AMBIENT)
        self.settings = Settings(
            source=self.source,
            node="n1",
            run_dir=root / "run",
            cgroup=self.node.cgroup,
            bpffs=bpffs / f"app-{os.getpid()}",
            xds_address=(IPv4Address("127.0.0.1"), 0),
            http_address="127.0.0.1",
            metrics_port=free_port(),
            mesh=Mesh(),
        )

    def configure(self, **settings: object) -> None:
        """Other settings for the agents from now on."""
        self.settings = replace(self.settings, **settings)

    def write(
        self,
        pod: Pod,
        mode: str = "ambient",
        *,
        stated: bool = True,
        running: bool = True,
        ending: bool = False,
        node: str = "n1",
    ) -> None:
        """The pod's manifest. `stated`: it says where the namespace is; `running`: it says the addresses."""
        where = f"  annotations: {{warren.dev/netns: {pod.path}}}\n" if stated else ""
        status = f"status:\n  podIPs: [{{ip: {pod.v4}}}, {{ip: '{pod.v6}'}}]\n" if running else ""
        where += "  deletionTimestamp: '2026-01-01T00:00:00Z'\n" if ending else ""
        (self.source / f"{pod.name}.yaml").write_text(
            f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {pod.name}\n  uid: uid-{pod.name}\n{where}"
            f"  labels: {{app: web, istio.io/dataplane-mode: {mode}}}\n"
            f"spec: {{nodeName: {node}}}\n{status}"
        )

    def label(self, mode: str) -> None:
        """The namespace's label."""
        (self.source / "mesh.yaml").write_text(AMBIENT.replace("ambient", mode))

    def remove(self, pod: Pod) -> None:
        (self.source / f"{pod.name}.yaml").unlink()

    @asynccontextmanager
    async def agent(self, says: str = "200 OK") -> AsyncIterator[Agent]:
        """A running agent, from when it says this of its readiness; ended by SIGTERM."""
        agent = Agent(self.settings)
        running = asyncio.create_task(agent.run())
        async with asyncio.timeout(PATIENCE):
            while says not in await self.page("/healthz/ready"):
                if running.done():
                    await running
                await asyncio.sleep(0.005)
        yield agent
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, PATIENCE)

    async def page(self, path: str) -> str:
        try:
            return await ask(self.settings.metrics_port, f"GET {path} HTTP/1.1\r\n\r\n")
        except ConnectionRefusedError:
            return ""

    def captured(self, agent: Agent) -> set[Cookie]:
        return {cookie for cookie, state in agent._datapath.pods().items() if state.captured}

    def close(self) -> None:
        Datapath.remove(self.settings.bpffs)
        self.node.close()


def cookies(*pods: Pod) -> set[Cookie]:
    return {Cookie(pod.netns.cookie()) for pod in pods}
