"""Calls the CNI plugin's binary as a container runtime does."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni import BINARY


@dataclass(frozen=True)
class Done:
    """How a call ended: the exit code, and what it printed."""

    code: int
    output: str

    @property
    def error(self) -> dict[str, Any]:
        assert self.code
        content: dict[str, Any] = json.loads(self.output)
        return content


@dataclass
class Plugin:
    """The entry of a conflist, and whoever runs it."""

    socket: Path
    version: str = "1.0.0"
    timeout: int = 10  # seconds
    agent: str = "warren-system/warren-node"
    excluded: list[str] = field(default_factory=lambda: ["kube-system"])

    async def call(self, command: str, environment: Mapping[str, str] = {}, **more: object) -> Done:
        """One call; `more` goes into the configuration."""
        content = {
            "cniVersion": self.version,
            "name": "net",
            "type": "warren-cni",
            "socket": str(self.socket),
            "agent": self.agent,
            "excludedNamespaces": self.excluded,
            "timeoutSeconds": self.timeout,
            **more,
        }
        return await run(json.dumps(content), {"CNI_COMMAND": command, **environment})

    async def add(
        self, container: str, netns: Path, pod: str, uid: str = "", ips: list[str] | None = None
    ) -> Done:
        """ADD for a pod NAMESPACE/NAME."""
        return await self.call("ADD", sandbox(container, netns, pod, uid), prevResult=result(ips or []))

    async def garbage(self, *known: str) -> Done:
        """GC, by a runtime that knows these containers."""
        attachments = [{"containerID": container, "ifname": "eth0"} for container in known]
        return await self.call("GC", **{"cni.dev/valid-attachments": attachments})  # type: ignore[arg-type]

    async def check(self, container: str, netns: Path, pod: str, uid: str = "") -> Done:
        return await self.call("CHECK", sandbox(container, netns, pod, uid), prevResult=result([]))

    async def delete(self, container: str, netns: Path, pod: str, uid: str = "") -> Done:
        return await self.call("DEL", sandbox(container, netns, pod, uid))


def sandbox(container: str, netns: Path, pod: str, uid: str = "") -> dict[str, str]:
    """The environment that tells of a sandbox."""
    namespace, name = pod.split("/")
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}"
    return {
        "CNI_CONTAINERID": container,
        "CNI_NETNS": str(netns),
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": arguments,
    }


def result(ips: list[str], version: str = "1.0.0") -> dict[str, object]:
    """What the plugin before would have made: the host's end of the link and the pod's."""
    return {
        "cniVersion": version,
        "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/var/run/netns/x"}],
        "ips": [{"address": "10.0.0.1/24", "interface": 0}]
        + [{"address": f"{ip}/{128 if ':' in ip else 32}", "interface": 1} for ip in ips],
    }


async def run(config: str, environment: dict[str, str]) -> Done:
    """The binary with this on stdin."""
    process = await asyncio.create_subprocess_exec(
        BINARY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
    )
    output, _ = await process.communicate(config.encode())
    assert process.returncode is not None
    return Done(process.returncode, output.decode())
