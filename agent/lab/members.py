"""Handles on a running lab's nodes and pods: run commands in them, look at their processes, end them."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from agent.lab import addresses, cgroups, mesh, pods, process, topology
from agent.lab.controllers import Body
from agent.lab.errors import LabError
from agent.lab.kernel import NETNS_DIRECTORY
from agent.lab.state import NodeState, PodState, State
from agent.model.mesh import GATEWAY
from agent.node.errors import NodeError
from agent.node.netns import NetnsFd
from agent.node.state import Cookie


class _Place(ABC):
    """Somewhere a command can run."""

    @property
    @abstractmethod
    def netns(self) -> Path:
        """The network namespace."""

    @property
    def environment(self) -> dict[str, str] | None:
        """The variables of a command; None for the caller's own."""
        return None

    @abstractmethod
    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line, for any process of the machine, that runs `argv` in this place."""

    def run(
        self, argv: Sequence[str], *, timeout: float = 60, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and give what it wrote (text).

        Raises CalledProcessError (with `check`), TimeoutExpired.
        """
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.environment, **options}
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.command(argv), text=True, timeout=timeout, check=check, **options)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process as the caller's child; it ends with the lab if it has not before."""
        return subprocess.Popen(self.command(argv), **{"env": self.environment, **options})


@dataclass(frozen=True)
class Pod(_Place):
    """A pod of a running lab."""

    state: State
    place: PodState
    body: Body

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def namespace(self) -> str:
        return self.place.namespace

    @property
    def node(self) -> str:
        return self.place.node

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.body["metadata"]["labels"]
        return labels

    @property
    def deployment(self) -> str:
        """The name of the Deployment that the pod is a replica of; empty when it is of none."""
        owners = self.body["metadata"]["ownerReferences"]
        sets = [str(owner["name"]) for owner in owners if owner["kind"] == "ReplicaSet"]
        return sets[0].rpartition("-")[0] if sets else ""

    @property
    def identity(self) -> str:
        """The SPIFFE identity that the mesh gives this pod."""
        account = self.body["spec"]["serviceAccountName"]
        return f"spiffe://{mesh.TRUST_DOMAIN}/ns/{self.namespace}/sa/{account}"

    @property
    def ipv4(self) -> IPv4Address:
        return topology.pod_addresses(self.place, self.state.node(self.node))[0]

    @property
    def ipv6(self) -> IPv6Address:
        return topology.pod_addresses(self.place, self.state.node(self.node))[1]

    @property
    def netns(self) -> Path:
        return NETNS_DIRECTORY / self.place.netns

    @property
    def cgroup(self) -> Path:
        return pod_cgroup(self.state, self.place)

    @property
    def log(self) -> Path:
        """What the pod's process writes."""
        return pod_log(self.state, self.place)

    @property
    def environment(self) -> dict[str, str]:
        return pods.environment(self.body)

    def pids(self) -> list[int]:
        return cgroups.pids(self.cgroup)

    def captured(self) -> bool:
        """Whether the kernel redirects the pod's connections, and has a tunnel for what arrives."""
        try:
            with closing(NetnsFd.open(self.netns)) as netns:
                seen = mesh.captured(self.state, self.state.node(self.node)).get(Cookie(netns.cookie()))
        except NodeError:  # it is just coming or going
            return False
        return seen is not None and seen.captured and seen.listening

    def command(self, argv: Sequence[str]) -> list[str]:
        inside = process.over_etc(pod_etc(self.state, self.place), argv)
        return process.in_cgroup(self.cgroup, process.in_network(self.netns, inside))


@dataclass(frozen=True)
class Node(_Place):
    """A node of a running lab. Its roles are "agent", "tunnel", "dns", and on the first node "ca"."""

    state: State
    place: NodeState

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def ipv4(self) -> IPv4Address:
        return addresses.node_v4(self.place.number)

    @property
    def ipv6(self) -> IPv6Address:
        return addresses.node_v6(self.place.number)

    @property
    def netns(self) -> Path:
        return NETNS_DIRECTORY / self.place.netns

    @property
    def cgroup(self) -> Path:
        return self.state.cgroup / self.name

    @property
    def run_dir(self) -> Path:
        """The agent's run directory."""
        return mesh.run_dir(self.state, self.place)

    @property
    def bpffs(self) -> Path:
        return mesh.bpffs(self.state, self.place)

    def command(self, argv: Sequence[str]) -> list[str]:
        return process.in_cgroup(self.cgroup, process.in_network(self.netns, argv))

    def link_to(self, other: "Node") -> str:
        """The name, on this node, of the link to another."""
        return topology.link_name(other.place)

    def log(self, role: str) -> Path:
        return mesh.log(self.state, self.place, role)

    def pids(self, role: str) -> list[int]:
        return cgroups.pids(mesh.cgroup(self.state, self.place, role))

    def fetch(self, port: int, path: str) -> str:
        """A page that a process of the node serves. Raises LabError."""
        return mesh.fetch(self.place, port, path)

    def verdicts(self) -> dict[str, int]:
        """How often the kernel of this node has given each verdict; none without the mesh."""
        return mesh.verdicts(self.state, self.place)

    def start(self, role: str) -> None:
        """Start a role that has ended and wait until it is ready. Raises LabError."""
        if cgroups.populated(mesh.cgroup(self.state, self.place, role)):
            raise LabError(f"the {role} of {self.name} runs already")
        mesh.start(self.state, self.place, role)
        mesh.await_ready(self.state, self.place, role)

    def stop(self, role: str, within: float = 15.0) -> None:
        """End a role's processes: SIGTERM, and after `within` seconds SIGKILL (at once for 0)."""
        group = mesh.cgroup(self.state, self.place, role)
        if within == 0 or not cgroups.terminate(group, within):
            cgroups.kill(group)


def is_gateway(pod: Body) -> bool:
    """Whether a pod is a gateway, whose process is the lab's own."""
    return (pod["metadata"].get("labels") or {}).get(GATEWAY) == "true"


def pod_cgroup(state: State, pod: PodState) -> Path:
    return state.cgroup / pod.node / "pods" / pod.slug


def pod_log(state: State, pod: PodState) -> Path:
    return state.run / "log" / f"{pod.slug}.log"


def pod_etc(state: State, pod: PodState) -> Path:
    return state.run / "pods" / pod.slug
