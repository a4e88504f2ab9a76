"""A lab: nodes, pods and the mesh between them, made and taken away again."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from agent.errors import SettingsError
from agent.lab import ingress, kernel, kubelet, manifests, mesh, requirements, teardown, topology
from agent.lab.api import Api
from agent.lab.cluster import Cluster, enrolled
from agent.lab.controllers import Body, Expansion, expand, key_of, node_object, workload_of
from agent.lab.errors import LabError
from agent.lab.manifests import TEMPLATED, Manifest
from agent.lab.members import Node, Pod, is_gateway
from agent.lab.state import RUN, NodeState, State, load, locked
from agent.model.schema.objects import Key

DEFAULT_MANIFEST = Path(__file__).with_name("default.yaml")
MAX_NODES = 5
_OTHERS = 10.0  # seconds for the lab's own processes that change it
Say = Callable[[str], None]
_ROLES = {
    "dns": "name servers",
    "api": "way to the API server",
    "ca": "certificate authority",
    "agent": "agents",
    "tunnel": "tunnels",
    "mounts": "roots and revocation lists",
    "reporter": "reporter",
    "kubelet": "probes",
    "watch": "watch over the manifests",
}
# Those of one step start at once, and are ready before the next begins.
_STEPS = (("dns", "api"), ("ca", "mounts", "agent"), ("tunnel",), ("reporter",))
_STEPS_OF_LIFE = (("kubelet", "watch"),)


def _silent(_: str) -> None:
    pass


class Lab:
    """A running lab. As a context manager it is taken down at the end."""

    def __init__(self, state: State, cluster: Cluster) -> None:
        self.state, self.cluster = state, cluster
        self.workloads = Cluster(state.run / "workloads")  # Deployments and the like, as they were applied

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
        watch: bool = False,
        mesh_config: Path | None = None,
        say: Say = _silent,
    ) -> "Lab":
        """Build a lab out of manifests (files and folders; none: the default ones) and wait until it serves.

        `nodes` is 1 to 5. `name` tells labs beside the user's own ("lab") apart. Without `meshed` it is a
        plain cluster. `access_log` is the tunnels' (off, errors, all). `ztunnels` names for a node the binary
        of Istio's ztunnel, to run in place of our tunnel. `api` is the kubeconfig of an API server that is to
        hold the cluster; the lab's objects are taken from it again at the end. Without `direct` connections
        between pods of one node go through the tunnel, too. With `watch` the lab follows its manifests when
        they are edited. `mesh_config` is the agents'. `say` is told each step.
        Raises SettingsError for what cannot be, before anything is made; LabError after all was taken away.
        """
        if not 1 <= nodes <= MAX_NODES:
            raise SettingsError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}")
        binaries = {node: str(path) for node, path in (ztunnels or {}).items()}
        state = State(name, meshed, access_log, binaries, str(api.absolute()) if api else "", direct)
        state.manifests = [str(path.absolute()) for path in paths] if watch else []
        state.mesh_config = str(mesh_config.absolute()) if mesh_config else ""
        state.nodes = [NodeState(f"node{n}", n, f"{state.prefix}-node{n}") for n in range(1, nodes + 1)]
        requirements.check(state)
        read, others = manifests.read(paths or [DEFAULT_MANIFEST])
        read = ingress.complete(read, {}) if meshed else read
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
                lab.workloads.put(one.body for one in read if one.key.kind in TEMPLATED)
            except BaseException:
                say("taking away what was made")
                teardown.take_down(state)
                raise
        lab._start(_STEPS_OF_LIFE, say)
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
        with locked(name, within=_OTHERS):
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
        """In the order in which they were placed; none that is just coming or going."""
        objects = self.cluster.objects
        placed = ((pod, objects.get(Key("Pod", pod.namespace, pod.name))) for pod in self.state.pods)
        return [Pod(self.state, pod, body) for pod, body in placed if body]

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
        """Have manifests' objects as they say. Gives the pods that are new.

        Pods of workloads that have not changed stay. Raises SettingsError, before anything is changed, and
        LabError.
        """
        return self.put(manifests.read(paths)[0])

    def put(self, read: Sequence[Manifest]) -> list[Pod]:
        """As `apply`, for manifests that are read."""
        read = ingress.complete(read, self.cluster.objects) if self.state.mesh else read
        plan = expand(read, self.cluster.of_kind("Node"), self.cluster.objects)
        again = {key_of(body) for body in plan.pods}
        self._evict(key for key in plan.outdated if key in again)
        added = kubelet.admit(self.state, self.cluster, plan)
        kubelet.launch(self.state, self.cluster, added)
        self._evict(key for key in plan.outdated if key not in again)
        self.workloads.put(one.body for one in read if one.key.kind in TEMPLATED)
        self._open_doors()
        return [pod for pod in self.pods if pod.place in added]

    def withdraw(self, keys: Iterable[Key]) -> list[Key]:
        """Take objects away, workloads with their pods, Namespaces with all in them. Gives what was there."""
        gone = []
        for key in keys:
            inside = [
                one for one in self.cluster.objects if key.kind == "Namespace" and one.namespace == key.name
            ]
            pods = [one for one, body in self.cluster.objects.items() if key in (one, workload_of(body))]
            known = [store for store in (self.workloads, self.cluster) if key in store.objects]
            self._evict(one for one in {*pods, *inside} if one.kind == "Pod")
            for store in (self.workloads, self.cluster):
                for one in [one for one in store.objects if one == key or one in inside]:
                    store.delete(one)
            if known or pods:
                gone.append(key)
        kubelet.publish(self.state, self.cluster)
        return gone

    def scale(self, key: Key, replicas: int) -> list[Pod]:
        """Have so many pods of a workload. Raises LabError when there is no such workload."""
        body = self.workload(key)
        return self._change(key, {**body, "spec": {**body["spec"], "replicas": replicas}})

    def restart(self, key: Key) -> list[Pod]:
        """Have new pods of a workload, as `kubectl rollout restart`. Raises LabError when there is none."""
        body = self.workload(key)
        template = body["spec"]["template"]
        meta = template.get("metadata", {})
        now = datetime.now(UTC).isoformat()
        annotations = {**meta.get("annotations", {}), "kubectl.kubernetes.io/restartedAt": now}
        template = {**template, "metadata": {**meta, "annotations": annotations}}
        return self._change(key, {**body, "spec": {**body["spec"], "template": template}})

    def workload(self, key: Key) -> Body:
        """A Deployment, StatefulSet, ... as it was applied. Raises LabError when there is none."""
        if body := self.workloads.objects.get(key):
            return body
        known = ", ".join(f"{one.kind.lower()}/{one.name}" for one in sorted(self.workloads.objects))
        raise LabError(f"there is no {key}: workloads are {known or 'none'}")

    def delete(self, pod: Pod) -> None:
        """End a pod. Its address is free at once: the next pod on its node gets it."""
        kubelet.evict(self.state, self.cluster, pod)

    def _open_doors(self) -> None:
        """Have ports of the machine's loopback lead to those of the gateway."""
        pod = next((pod for pod in self.pods if is_gateway(pod.body)), None)
        wanted = ingress.doors(self.cluster.objects, self.state.doors) if pod else {}
        if wanted == self.state.doors:
            return
        first = self.nodes[0]
        first.stop("doors", within=0)
        self.state.doors, self.state.door = wanted, pod.place.netns if pod else ""
        self.state.save()
        if wanted:
            first.start("doors")

    def _change(self, key: Key, body: Body) -> list[Pod]:
        return self.put([Manifest(key, body, str(key))])

    def _evict(self, keys: Iterable[Key]) -> None:
        wanted = {*keys}
        for pod in self.pods:
            if Key("Pod", pod.namespace, pod.name) in wanted:
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
        self._start(_STEPS, say)
        say("pods")
        kubelet.launch(state, self.cluster, added)
        self._open_doors()
        state.complete = True
        state.save()

    @property
    def problems(self) -> list[str]:
        """What is wrong with files of the lab: a line each."""
        watched = self.state.problems
        of_manifests = watched.read_text().splitlines() if watched.exists() else []
        return [*self.cluster.problems, *self.workloads.problems, *of_manifests]

    def _start(self, steps: Iterable[Sequence[str]], say: Say) -> None:
        for step in steps:
            nodes = [(node, mesh.roles(self.state, node)) for node in self.state.nodes]
            places = [(node, role) for role in step for node, roles in nodes if role in roles]
            if places:
                say(", ".join(_ROLES[role] for role in dict.fromkeys(role for _, role in places)))
            for node, role in places:
                mesh.start(self.state, node, role)
            for node, role in places:
                mesh.await_ready(self.state, node, role)
