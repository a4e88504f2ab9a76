"""Agent and tunnel do their work with the capabilities that the DaemonSet gives them, and each is needed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent.lab import Lab, mesh, process
from agent.lab.errors import LabError
from agent.lab.members import Node
from tests.deploy.manifests import of_kind

CONTAINERS = {
    container["name"]: set(container["securityContext"]["capabilities"]["add"])
    for container in of_kind("DaemonSet")[0]["spec"]["template"]["spec"]["containers"]
}
# Kernels before 6.13 or so ask for it; the one that runs may not.
OF_OLDER_KERNELS = {"DAC_READ_SEARCH"}
CALLS = 10  # of which only the first ones need the tunnel
NEEDED = [(role, name) for role, names in CONTAINERS.items() for name in sorted(names - OF_OLDER_KERNELS)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(name=f"wt-caps-{os.getpid()}", nodes=1) as running:
        yield running


def again(node: Node, role: str, capabilities: set[str]) -> None:
    """Start a role anew, as root with no other capabilities. Raises LabError when it does not get ready."""
    if pids := node.pids(role):
        entries = Path(f"/proc/{pids[0]}/environ").read_text().split("\0")
        known[node.state.name, role] = dict(entry.split("=", 1) for entry in entries if entry)
    argv, variables = mesh.command(node.state, node.place, role), known[node.state.name, role]
    node.stop(role, within=0)
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(capabilities))])
    held = ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--inh-caps=-all", "--", *argv]
    group = mesh.cgroup(node.state, node.place, role)
    process.start(group, process.in_network(node.netns, held), node.log(role), variables)
    mesh.await_ready(node.state, node.place, role)


known: dict[tuple[str, str], dict[str, str]] = {}


def start_a_pod(lab: Lab, folder: Path, name: str) -> bool:
    """A new one, captured, that another pod reaches, at last without the tunnel."""
    spec = {"serviceAccountName": "web", "containers": [{"name": "a", "ports": [{"containerPort": 8080}]}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    (folder / "pod.yaml").write_text(yaml.safe_dump(body))
    [pod] = lab.apply([folder / "pod.yaml"])
    [node], client = lab.nodes, lab.pod("deploy/client")
    direct = node.verdicts()["inbound_direct"]
    for _ in range(CALLS):
        answer = client.run(["curl", "-sfm", "10", f"http://{pod.ipv4}:8080/"], check=False)
        if answer.returncode or node.verdicts()["inbound_direct"] > direct:
            break
    lab.delete(pod)
    return answer.returncode == 0 and node.verdicts()["inbound_direct"] > direct


def test_they_are_enough(lab: Lab, tmp_path: Path) -> None:
    [node] = lab.nodes
    for role, capabilities in CONTAINERS.items():
        again(node, role, capabilities)
    assert start_a_pod(lab, tmp_path, "first")


@pytest.mark.parametrize(("role", "capability"), NEEDED)
def test_each_is_needed(lab: Lab, tmp_path: Path, role: str, capability: str) -> None:
    [node] = lab.nodes
    try:
        again(node, role, CONTAINERS[role] - {capability})
        works = start_a_pod(lab, tmp_path, capability.lower().replace("_", "-"))
    except LabError:
        works = False
    finally:
        again(node, role, CONTAINERS[role])
    assert not works
