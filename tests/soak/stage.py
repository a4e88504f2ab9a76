"""The lab of a soak: what calls all the time, what is churned, what is read of it."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from agent.lab import Lab, manifests
from agent.lab.kernel import NETNS_DIRECTORY
from agent.lab.members import Pod
from agent.model.schema.objects import Key
from bpf.pins import Pins
from tests.mesh.conftest import Mesh
from tests.soak.samples import latencies
from tests.support import sockets

PODS = Path(__file__).with_name("pods.yaml")
PORT = 7800
ROUNDS, CALLS = 5, 20  # timed on each path, for each sample
REQUESTS = 20
KEPT = 50  # connections that stay open from the beginning to the end
MAPS = ("pods", "addresses", "original", "listeners", "device_listeners", "tunnels")
ROLES = ("agent", "tunnel", "ca")
Body = dict[str, Any]


@contextmanager
def stage(name: str, folder: Path, seed: int) -> Iterator["Stage"]:
    """A lab of two nodes, busy from the beginning, and taken away at the end; its logs stay in `folder`.

    Raises LabError.
    """
    with Lab.up([PODS], name=name, access_log="errors") as lab:
        made = Stage(lab, folder, seed)
        try:
            yield made
        finally:
            made.mesh.close()
            shutil.copytree(lab.state.run / "log", folder / "log", dirs_exist_ok=True)


class Stage:
    """`churn` and `sample` in turns; `settle` at the end. errors: of calls and connections, in words."""

    def __init__(self, lab: Lab, folder: Path, seed: int) -> None:
        self.mesh, self.lab = Mesh(lab, {}), lab
        self.errors: list[str] = []
        self.events: Counter[str] = Counter()
        self._folder, self._random, self._number = folder, random.Random(seed), 0
        self._client = self.mesh.inside("a")
        for pod in ("near", "far", "far-plain"):
            self.mesh.inside(pod).call(sockets.serve, PORT)
        self._targets = [
            (self.mesh.address(pod, family), PORT) for pod in ("near", "far") for family in (4, 6)
        ]
        self._kept = self._client.call(sockets.connect_many, self._targets[2], KEPT)
        self._calling: list[int] = []
        self.resume()
        for node in lab.nodes:  # what a first pod that comes and goes leaves behind is no growth
            self._pod_comes(node.name)

    def resume(self) -> None:
        self._calling = [self._client.call(sockets.keep_calling, to) for to in self._targets]

    def pause(self) -> None:
        """End the calls: whatever went wrong with one counts."""
        for number in self._calling:
            self.errors += self._client.call(sockets.calls_made, number)[1]
        self._calling = []

    def churn(self) -> None:
        """One thing happens, drawn at random."""
        event = self._random.choice(
            (
                self._pods_come,
                self._policy_changes,
                self._route_changes,
                self._agent_dies,
                self._tunnel_restarts,
            )
        )
        self.events[event.__name__.strip("_").replace("_", " ")] += 1
        event()

    def sample(self) -> dict[str, float]:
        """Figures of processes that are never restarted are those of the first node."""
        figures: dict[str, float] = {}
        node = self.lab.node("node1")
        for role in ROLES:
            for pid in node.pids(role)[-1:]:
                figures[f"memory node1 {role}"] = _resident(pid)
                figures[f"descriptors node1 {role}"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        for node in self.lab.nodes:
            for name in MAPS:
                if known := Pins(node.bpffs).map(name):
                    figures[f"map {node.name} {name}"] = len(list(known))
        figures["processes"] = sum(len(node.pids(role)) for node in self.lab.nodes for role in ROLES)
        figures["namespaces"] = len(list(NETNS_DIRECTORY.iterdir()))
        figures |= self._latencies()
        self._request()
        return figures

    def _latencies(self) -> dict[str, float]:
        """The paths take turns: a machine that is busy is so for all of them."""
        paths = {"plain": ("timing-plain", "far-plain"), "near": ("timing", "near"), "far": ("timing", "far")}
        took: dict[str, list[float]] = {path: [] for path in paths}
        for path, (client, server) in ROUNDS * list(paths.items()):
            to = (self.mesh.address(server, 4), PORT)
            took[path] += self.mesh.inside(client).call(sockets.timed_calls, to, CALLS)
        return latencies(took)

    def settle(self) -> None:
        """The load ends; what was open all the time must still carry bytes."""
        self.pause()
        if (good := self._client.call(sockets.echoing, self._kept)) < KEPT:
            self.errors.append(f"{KEPT - good} of {KEPT} long connections broke")
        self._client.call(sockets.forget_all, self._kept)

    def _request(self) -> None:
        command = ["curl", "-sSfm", "10", "--fail-early", "-o", "/dev/null", f"http://web/?[1-{REQUESTS}]"]
        done = self.lab.pod("a").run(command, check=False, timeout=10.0 * REQUESTS + 60)
        if done.returncode:
            self.errors.append(f"requests to http://web/: {done.stderr.strip()}")

    def _pods_come(self) -> None:
        self._pod_comes(self._random.choice(self.lab.nodes).name)

    def _pod_comes(self, node: str) -> None:
        """With an identity that is new to the node, so with a certificate of its own; then it goes."""
        self._number += 1
        name = f"passing{self._number}"
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        spec = {"nodeName": node, "serviceAccountName": name, "containers": [{"name": "a"}]}
        [pod] = self._put(
            account, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        )
        self.mesh.inside(name).call(sockets.timed_calls, self._targets[2], 5)
        self.mesh.leave(name)
        self.lab.delete(pod)
        self.lab.withdraw([Key("ServiceAccount", "default", name)])

    def _policy_changes(self) -> None:
        """One that denies nobody who calls here."""
        name = f"soak{self._random.randrange(3)}"
        rule = {"from": [{"source": {"namespaces": [f"nowhere{self._random.randrange(1000)}"]}}]}
        self._put(_object("security.istio.io/v1", "AuthorizationPolicy", name, action="DENY", rules=[rule]))
        if self._random.random() < 0.5:
            self.lab.withdraw([Key("AuthorizationPolicy", "default", name)])

    def _route_changes(self) -> None:
        route = {"route": [{"destination": {"host": "web"}}], "timeout": f"{self._random.randrange(5, 60)}s"}
        self._put(_object("networking.istio.io/v1", "VirtualService", "web", hosts=["web"], http=[route]))

    def _agent_dies(self) -> None:
        """Of the other node, with no time to say goodbye; the calls go on."""
        node = self.lab.node("node2")
        node.stop("agent", within=0)
        node.start("agent")

    def _tunnel_restarts(self) -> None:
        """Of the other node, with no successor beside it: nobody calls meanwhile."""
        self.pause()
        self._client.call(sockets.forget_all, self._kept)
        node = self.lab.node("node2")
        node.stop("tunnel")
        node.start("tunnel")
        self._kept = self._client.call(sockets.connect_many, self._targets[2], KEPT)
        self.resume()

    def _put(self, *bodies: Body) -> list[Pod]:
        path = self._folder / "churn.yaml"
        path.write_text(yaml.safe_dump_all(bodies))
        return self.lab.put(manifests.read([path])[0])


def _object(group: str, kind: str, name: str, **spec: Any) -> Body:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def _resident(pid: int) -> float:
    """kB of memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
