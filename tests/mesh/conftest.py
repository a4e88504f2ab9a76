"""A mesh of four pods: `a` and `near` on one node, `far` and (not enrolled) `outside` on the other."""

import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.ca import directory
from agent.cli.admin_client import ask_agent
from agent.lab import Lab, upgrade
from agent.lab.members import Node, Pod, is_gateway
from agent.model.schema.objects import Key
from protocols.agent import Configuration
from tests.support import apiserver, sockets
from tests.support.custom import install
from tests.support.resident import Resident
from tests.support.unmeasured import unmeasured
from tests.support.wait import until

PODS = Path(__file__).with_name("pods.yaml")
PORT = 7000
SHARED = ("dir", "kube")
ON_FOLDER, ON_SERVER = (pytest.mark.parametrize("shared_lab", [name], indirect=True) for name in SHARED)
Manifest = dict[str, Any]
_LAST = 30  # lines of a log that a failure shows


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what tunnels and gateways said last beside a failure: their logs go with the lab."""
    report = yield
    given = getattr(item, "funcargs", {}).values() if report.failed else ()
    meshes = [getattr(value, "mesh", value) for value in given]
    labs = {lab.state.name: lab for one in meshes if isinstance(lab := getattr(one, "lab", one), Lab)}
    for lab in labs.values():
        logs = {f"tunnel of {node.name}": node.log("tunnel") for node in lab.nodes}
        logs |= {f"gateway {pod.name}": pod.log for pod in lab.pods if is_gateway(pod.body)}
        for name, log in logs.items():
            with suppress(OSError):
                report.sections.append((name, "\n".join(log.read_text().splitlines()[-_LAST:])))
    return report


@dataclass
class Mesh:
    """The lab, with a process of ours in each pod that sockets are asked for."""

    lab: Lab
    residents: dict[str, Resident]

    def inside(self, pod: str) -> Resident:
        """A process in that pod."""
        if pod not in self.residents:
            place = self.lab.pod(pod)
            self.residents[pod] = Resident(place.cgroup, place.netns)
        return self.residents[pod]

    def leave(self, pod: str) -> None:
        """End our process in a pod."""
        self.residents.pop(pod).close()

    def close(self) -> None:
        """End our processes in all pods."""
        for resident in self.residents.values():
            resident.close()
        self.residents.clear()

    def replace(self, pod: str, manifest: Path) -> Pod:
        """End a pod and start the one that the manifest has; it gets the same address."""
        self.leave(pod)
        self.lab.delete(self.lab.pod(pod))
        (other,) = self.lab.apply([manifest])
        return other

    def restore(self, stranger: str) -> None:
        """End a pod that is not of this mesh, if it is there, and start what is missing."""
        if stranger in self.residents:
            self.leave(stranger)
        for pod in self.lab.pods_of(stranger):
            self.lab.delete(pod)
        self.lab.apply([PODS])

    def address(self, pod: str, family: int) -> str:
        place: Pod = self.lab.pod(pod)
        return str(place.ipv4 if family == 4 else place.ipv6)

    def service(self, name: str, family: int) -> str:
        """The virtual address of a Service."""
        body = self.lab.cluster.objects[Key("Service", "default", name)]
        addresses = [ip for ip in body["spec"]["clusterIPs"] if (":" in ip) == (family == 6)]
        if not addresses and apiserver.real():
            pytest.skip(f"{apiserver.real()}: this server gives Services no addresses of IPv{family}")
        return str(addresses[0])


def serving(node: Node) -> dict[str, Any]:
    """The generation of a node's tunnel that serves."""
    return until(
        lambda: next((one for one in upgrade.generations(node) if one["stage"] == "serving"), {}),
        what="a generation serves",
    )


def is_current(node: Node) -> bool:
    """Whether a tunnel has all that its agent has: a policy comes before the workloads that it selects."""
    served = ask_agent(node.run_dir, "/configuration", Configuration).resources
    held = json.loads(node.fetch(15000, "/versions"))["versions"]
    return {url: names for url, names in served.items() if names} == {
        url: names for url, names in held.items() if names
    }


@contextmanager
def in_force(
    mesh: Mesh, manifests: Sequence[Manifest], over: Callable[[], object], what: str
) -> Iterator[None]:
    """These objects as long as it lasts; waits afterwards until it is `over`, as `what` says."""
    mesh.lab.cluster.put(manifests)
    try:
        yield
    finally:
        for one in manifests:
            mesh.lab.cluster.delete(Key(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]))
        until(over, what=what)


def revoke_all(mesh: Mesh, identity: str) -> None:
    """What the authority has signed for it, as `warren ca revoke` does."""
    log = mesh.lab.nodes[0].log("ca").read_text()
    serials = re.findall(rf"{identity} for \S+ until \S+, serial (\w+)", log)
    assert serials
    folder = mesh.lab.state.run / "ca"
    directory.revoke(folder, directory.read_root(folder), {int(serial, 16) for serial in serials})


@dataclass
class Connection:
    """One connection: a client's socket in one pod, a server's in another."""

    client: Resident
    server: Resident
    near: int
    far: int
    seen: str  # the client's address, as the server sees it

    def close(self) -> None:
        self.client.call(sockets.close, self.near)
        self.server.call(sockets.close, self.far)


@pytest.fixture(scope="session", params=SHARED)
def shared_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab for many modules, each of which leaves it as it was.

    Once with a folder as the cluster, and once with an API server and everything through the tunnels.
    """
    with ExitStack() as exits:
        kubeconfig = None
        if request.param == "kube":
            kubeconfig = apiserver.real() or exits.enter_context(apiserver.fake()).kubeconfig
            install(kubeconfig)
        direct = request.param == "dir"
        name = f"wt-{request.param}-{os.getpid()}"
        with unmeasured():
            lab = exits.enter_context(Lab.up([PODS], name=name, api=kubeconfig, direct=direct))
        yield lab


@pytest.fixture(scope="module", autouse=True)
def unmeasured_processes() -> Iterator[None]:
    """Those of the modules' own labs, and what tests start."""
    with unmeasured():
        yield


@pytest.fixture(scope="module")
def mesh(shared_lab: Lab) -> Iterator[Mesh]:
    mesh = Mesh(shared_lab, {})
    try:
        yield mesh
    finally:
        mesh.close()
        until(lambda: open_connections(mesh.lab.nodes) == 0, what="nothing is open for the next module")


def open_connections(nodes: list[Node]) -> int:
    """As the tunnels tell."""
    pages = [node.run(["curl", "-s", "http://127.0.0.1:15000/connections"]).stdout for node in nodes]
    return sum(len(json.loads(page)) for page in pages)


@pytest.fixture(scope="module")
def listening(mesh: Mesh) -> dict[str, int]:
    """In every pod, a listener on `PORT`."""
    return {pod: mesh.inside(pod).call(sockets.listen, PORT) for pod in ("a", "near", "far", "outside")}


@pytest.fixture
def connect(mesh: Mesh, listening: dict[str, int]) -> Iterator["Connector"]:
    connector = Connector(mesh, listening)
    yield connector
    for connection in connector.made:
        for resident, number in ((connection.client, connection.near), (connection.server, connection.far)):
            resident.call(sockets.forget, number)


class Connector:
    """Makes connections between pods, and takes them away after the test."""

    def __init__(self, mesh: Mesh, listening: dict[str, int]) -> None:
        self.mesh, self.listening = mesh, listening
        self.made: list[Connection] = []

    def __call__(
        self,
        source: str,
        target: str,
        family: int = 4,
        *,
        to: sockets.Address | None = None,
        abort: bool = False,
    ) -> Connection:
        """From a pod to a pod: to its own address, or to another that leads there; reset at once, or not."""
        client, server = self.mesh.inside(source), self.mesh.inside(target)
        act = sockets.connect_and_reset if abort else sockets.connect
        near = client.call(act, to or (self.mesh.address(target, family), PORT))
        far, seen = server.call(sockets.accept, self.listening[target])
        self.made.append(Connection(client, server, near, far, seen))
        return self.made[-1]
