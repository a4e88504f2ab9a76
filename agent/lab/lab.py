"""A lab: nodes, pods and the mesh between them, made and taken away again."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from agent.errors import SettingsError
from agent.lab import kernel, kubelet, manifests, mesh, requirements, teardown, topology
from agent.lab.api import Api
from agent.lab.cluster import Cluster, enrolled
from agent.lab.controllers import Expansion, expand, node_object
from agent.lab.errors import LabError
from agent.lab.members import Node, Pod
from agent.lab.state import RUN, NodeState, State, load, locked
from agent.model.objects import Key

DEFAULT_MANIFEST = Path(__file__).with_name("default.yaml")
MAX_NODES = 5
Say = Callable[[str], None]
_STEPS = {
    "dns": "name servers",
    "api": "way to the API server",
    "ca": "certificate authority",
    "agent": "agents",
    "tunnel": "tunnels",
    "reporter": "reporter",
}


def _silent(_: str) -> None:
    pass


class Lab:
    """A running lab. As a context manager it is taken down at the end."""

    def __init__(self, state: State, cluster: Cluster) -> None:
        self.state, self.cluster = state, cluster

    @classmethod
    def up(
        cls,
        paths: Sequence[Path] = (),
        *,
        nodes: int = 2,
        name: str = "lab",
        meshed: bool = True,
        access_log: str = "all",
        ztunnels: Mapping[str, Path] | None = None,
        api: Path | None = None,
        direct: bool = True,
        say: Say = _silent,
    ) -> "Lab":
        """Build a lab out of manifests (files and folders; none: the default ones) and wait until it serves.

        `nodes` is 1 to 5. `name` tells labs beside the user's own ("lab") apart. Without `meshed` it is a
        plain cluster. `access_log` is the tunnels' (off, errors, all). `ztunnels` names for a node the binary
        of Istio's ztunnel, to run in place of our tunnel. `api` is the kubeconfig of an API server that is to
        hold the cluster; the lab's objects are taken from it again at the end. Without `direct` connections
        between pods of one node go through the tunnel, too. `say` is told each step.
        Raises SettingsError for what cannot be, before anything is made; LabError after all was taken away.
        """
        if not 1 <= nodes <= MAX_NODES:
            raise SettingsError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}")
        binaries = {node: str(path) for node, path in (ztunnels or {}).items()}
        state = State(name, meshed, access_log, binaries, str(api.absolute()) if api else "", direct)
        state.nodes = [NodeState(f"node{n}", n, f"{state.prefix}-node{n}") for n in range(1, nodes + 1)]
        requirements.check(state)
        read, others = manifests.read(paths or [DEFAULT_MANIFEST])
        for kind, count in sorted(others.items()):
            say(f"left out {count} of kind {kind}, which is nothing to the lab")
        plan = expand(read, [node_object(node.name, node.number) for node in state.nodes], {})
        with locked(name):
            if load(name):
                raise LabError("a lab is there already, whole or in part: `warren lab down` takes it away")
            kernel.check_free(node.netns for node in state.nodes)
            if api:
                state.mark = f"{name:.40}-{uuid.uuid4().hex[:12]}"
                Api(api, state.mark).check_free(state.nodes)
            cluster = Cluster.of(state)
            state.save()
            try:
                lab = cls(state, cluster)
                lab._build(plan, say)
            except BaseException:
                say("taking away what was made")
                teardown.take_down(state)
                raise
        return lab

    @classmethod
    def open(cls, name: str = "lab") -> "Lab":
        """The lab that is up. Raises LabError when there is none, or only a part of one."""
        state = load(name)
        if state is None:
            raise LabError("no lab is up: `warren lab up` makes one")
        if not state.complete:
            raise LabError("the lab is not whole: its `up` is at work, or was ended (`warren lab down`)")
        return cls(state, Cluster.of(state))

    @staticmethod
    def remove(name: str = "lab") -> bool:
        """Take a lab away in whatever state it is.

        False when there was none. Raises LabError for what stays.
        """
        there = (RUN / name).exists()
        with locked(name):
            state = load(name) or State(name, False, "", {})
            there = there or state.cgroup.exists()
            teardown.take_down(state)
        return there

    def down(self) -> None:
        """Take this lab away: processes, namespaces, links, mounts, control groups, pins and files."""
        self.remove(self.state.name)

    def __enter__(self) -> "Lab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def nodes(self) -> list[Node]:
        return [Node(self.state, node) for node in self.state.nodes]

    @property
    def pods(self) -> list[Pod]:
        """In the order in which they were placed."""
        return [
            Pod(self.state, pod, self.cluster.objects[Key("Pod", pod.namespace, pod.name)])
            for pod in self.state.pods
        ]

    def node(self, name: str) -> Node:
        """Raises LabError when there is no such node."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"there is no node {name}: nodes are {', '.join(node.name for node in self.nodes)}")

    def pod(self, name: str) -> Pod:
        """A pod by its name, the start of it, or `deploy/NAME`; each also as `NAMESPACE/...`.

        Of several that fit, one whose name is exactly that, else the first. Raises LabError when none does.
        """
        if not (fitting := self.pods_of(name)):
            known = ", ".join(sorted(f"{pod.namespace}/{pod.name}" for pod in self.pods))
            raise LabError(f"there is no pod {name}: pods are {known or 'none'}")
        return min(fitting, key=lambda pod: pod.name != name.rpartition("/")[2])

    def pods_of(self, name: str) -> list[Pod]:
        """All pods that fit a name as `pod` takes it, such as all replicas of `deploy/NAME`."""
        head, _, rest = name.partition("/")
        if rest and head not in ("deploy", "deployment", "pod"):
            return [pod for pod in self.pods_of(rest) if pod.namespace == head]
        if head in ("deploy", "deployment"):
            return [pod for pod in self.pods if pod.deployment == rest]
        return [pod for pod in self.pods if pod.name.startswith(rest or head)]

    def enrolled(self, pod: Pod) -> bool:
        """Whether labels put the pod into the mesh."""
        return self.state.mesh and enrolled(self.cluster, pod.body)

    def apply(self, paths: Iterable[Path]) -> list[Pod]:
        """Add manifests' objects: pods that are there stay, other objects are replaced. Gives the new pods.

        Raises SettingsError, before anything is changed, and LabError.
        """
        read, _ = manifests.read(paths)
        plan = expand(read, self.cluster.of_kind("Node"), self.cluster.objects)
        added = kubelet.admit(self.state, self.cluster, plan)
        kubelet.launch(self.state, self.cluster, added)
        return self.pods[-len(added) :] if added else []

    def delete(self, pod: Pod) -> None:
        """End a pod. Its address is free at once: the next pod on its node gets it."""
        kubelet.evict(self.state, self.cluster, pod)

    def _build(self, plan: Expansion, say: Say) -> None:
        state = self.state
        (state.run / "log").mkdir()
        say(f"network of {len(state.nodes)} nodes and {len(plan.pods)} pods")
        state.netns_directory_made = kernel.prepare_netns_directory()
        state.save()
        for index, node in enumerate(state.nodes):
            topology.add_node(node)
            for other in state.nodes[:index]:
                topology.connect_nodes(node, other)
            (state.cgroup / node.name / "pods").mkdir(parents=True)
        self.cluster.put(plan.nodes)
        added = kubelet.admit(state, self.cluster, plan)
        mesh.prepare(state, self.cluster)
        for role, text in _STEPS.items():
            self._start(role, text, say)
        say("pods")
        kubelet.launch(state, self.cluster, added)
        state.complete = True
        state.save()

    def _start(self, role: str, text: str, say: Say) -> None:
        """Start a role on each node that has it, all at once, then wait for all."""
        places = [node for node in self.state.nodes if role in mesh.roles(self.state, node)]
        if places:
            say(text)
        for node in places:
            mesh.start(self.state, node, role)
        for node in places:
            mesh.await_ready(self.state, node, role)
        if role == "ca":
            mesh.save_root(self.state, self.cluster)
