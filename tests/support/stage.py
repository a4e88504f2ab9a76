"""A node with pods, a bpffs of its own, and the redirection; the fixtures are in tests/agent/conftest.py."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agent.node import routing
from agent.node.datapath import Datapath
from agent.node.state import Cookie
from tests.support import standin
from tests.support.netns import Node, Pod
from tests.support.resident import Resident


@dataclass
class Stage:
    """A node whose redirection is loaded; enrolling is up to the test."""

    node: Node
    bpffs: Path
    datapath: Datapath
    exits: ExitStack

    def pod(self) -> Pod:
        return self.node.pod()

    def application(self, pod: Pod) -> Resident:
        """A process of the pod's."""
        return self._started(Resident(pod.cgroup, pod.path))

    def on_host(self, name: str) -> Resident:
        """A process of the host's, which is where the router is, in a cgroup of this name."""
        return self._started(Resident(self.node.make_cgroup(name), self.node.router_path))

    def tunnel(self, *pods: Pod, reuse: bool = False) -> Resident:
        """One more trusted process, in a cgroup of its own, that listens in the pods."""
        number = len(list(self.node.cgroup.glob("tunnel*"))) + 1
        resident = self._started(Resident(self.node.make_cgroup(f"tunnel{number}")))
        self.datapath.trust_tunnel(resident.pid)
        for pod in pods:
            resident.call(standin.adopt, pod.path, f"tunnel{number}", reuse=reuse)
        return resident

    def prepare(self, pod: Pod) -> Cookie:
        cookie = self.datapath.prepare(pod.netns, pod.addresses)
        routing.install(pod.netns)
        return cookie

    def enrol(self, pod: Pod) -> Cookie:
        cookie = self.prepare(pod)
        self.datapath.capture(pod.netns, cookie)
        return cookie

    def restart(self, program: Path | None = None) -> None:
        """The agent goes, and comes back; perhaps another version of it."""
        self.datapath.close()
        more = {} if program is None else {"program": program}
        self.datapath = Datapath.open(self.node.cgroup, self.bpffs / "warren", **more)

    def _started(self, resident: Resident) -> Resident:
        self.exits.callback(resident.close)
        return resident
