"""Agent and tunnel do their work with the capabilities that the DaemonSet gives them, and each is needed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.lab import Lab, mesh, process
from agent.lab.errors import LabError
from agent.lab.members import Node, Pod
from tests.deploy.manifests import of_kind
from tests.support.wait import PATIENCE, until

CONTAINERS = {
    container["name"]: set(container["securityContext"]["capabilities"]["add"])
    for container in of_kind("DaemonSet")[0]["spec"]["template"]["spec"]["containers"]
}
# Kernels before 6.13 or so ask for it; the one that runs may not.
OF_OLDER_KERNELS = {"DAC_READ_SEARCH"}
LACKING = 20.0  # seconds for what is not allowed; what is takes 1 to 2, on a busy machine 20
CUT = 7
# A port at which nobody is refuses it. It opens a connection and says so; it ends with CUT when that is cut.
CONNECT = f"""
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 10)
    sys.exit("nobody is there, and connect() says otherwise")
except ConnectionRefusedError:
    pass
sock = socket.create_connection((sys.argv[1], 8080))
print(flush=True)
try:
    sock.recv(1)
except OSError:
    sys.exit({CUT})
"""
NEEDED = [(role, name) for role, names in CONTAINERS.items() for name in sorted(names - OF_OLDER_KERNELS)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(name=f"wt-caps-{os.getpid()}", nodes=1) as running:
        yield running


def again(node: Node, role: str, capabilities: set[str], within: float = PATIENCE) -> None:
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
    mesh.await_ready(node.state, node.place, role, within)


known: dict[tuple[str, str], dict[str, str]] = {}


def denied(namespace: str) -> dict[str, Any]:
    """A policy that lets nobody of a namespace reach the pods of ours."""
    rules = [{"from": [{"source": {"namespaces": [namespace]}}]}]
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "denied", "namespace": "default"},
        "spec": {"action": "DENY", "rules": rules},
    }


def applied(lab: Lab, folder: Path, body: dict[str, Any]) -> list[Pod]:
    (folder / "object.yaml").write_text(yaml.safe_dump(body))
    return lab.apply([folder / "object.yaml"])


def works(lab: Lab, folder: Path, name: str, within: float = PATIENCE) -> bool:
    """A new pod is captured; another one reaches it, at last without the tunnel, and is cut by a policy.

    Where nobody listens its `connect()` is refused.
    """
    spec = {"serviceAccountName": "web", "containers": [{"name": "a", "ports": [{"containerPort": 8080}]}]}
    [pod] = applied(
        lab, folder, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    )
    [node], client = lab.nodes, lab.pod("deploy/client")
    before = node.verdicts()["inbound_direct"]

    def is_direct() -> bool:
        asked = client.run(["curl", "-sfm", "10", f"http://{pod.ipv4}:8080/"], check=False)
        return asked.returncode == 0 and node.verdicts()["inbound_direct"] > before

    try:
        until(is_direct, within)
        with client.popen([sys.executable, "-c", CONNECT, str(pod.ipv4)], stdout=subprocess.PIPE) as held:
            assert held.stdout
            held.stdout.readline()  # it is open
            try:
                applied(lab, folder, denied("default"))
                return held.wait(within) == CUT
            finally:
                held.kill()
    except (AssertionError, subprocess.TimeoutExpired):
        return False
    finally:
        applied(lab, folder, denied("nowhere"))
        lab.delete(pod)


def test_they_are_enough(lab: Lab, tmp_path: Path) -> None:
    [node] = lab.nodes
    for role, capabilities in CONTAINERS.items():
        again(node, role, capabilities)
    assert works(lab, tmp_path, "first")


@pytest.mark.parametrize(("role", "capability"), NEEDED)
def test_each_is_needed(lab: Lab, tmp_path: Path, role: str, capability: str) -> None:
    [node], name = lab.nodes, capability.lower().replace("_", "-")
    try:
        again(node, role, CONTAINERS[role] - {capability}, LACKING)
        without = works(lab, tmp_path, f"without-{name}", LACKING)
    except LabError:
        without = False
    finally:
        again(node, role, CONTAINERS[role])
    assert not without
    assert works(lab, tmp_path, f"with-{name}")
