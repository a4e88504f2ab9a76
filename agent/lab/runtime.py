"""What a container runtime does for a pod's network: it calls the CNI plugin, after the lab's own network."""

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from agent.lab import mesh, topology
from agent.lab.controllers import Body
from agent.lab.errors import LabError
from agent.lab.kernel import NETNS_DIRECTORY
from agent.lab.state import PodState, State
from agent.node.conflist import entry
from cni import BINARY

_VERSION = "1.0.0"
_WITHIN = 60.0  # seconds; the plugin itself gives up sooner
_AT_ONCE = 8  # calls under way: a kubelet starts pods in parallel, too


def attach(state: State, pods: Sequence[tuple[PodState, Body]]) -> None:
    """ADD: returns when all pods that are to be captured are. Raises LabError."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda pod: _call(state, "ADD", *pod), pods))


def detach(state: State, pod: PodState, body: Body) -> None:
    """DEL: the pod is about to go. Raises LabError."""
    _call(state, "DEL", pod, body)


def _call(state: State, command: str, pod: PodState, body: Body) -> None:
    node = state.node(pod.node)
    meta = body["metadata"]
    arguments = {
        "K8S_POD_NAMESPACE": pod.namespace, "K8S_POD_NAME": pod.name, "K8S_POD_UID": meta["uid"],
    }  # fmt: skip
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": meta["uid"],
        "CNI_NETNS": str(NETNS_DIRECTORY / pod.netns),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(BINARY.parent),
        "CNI_ARGS": ";".join(f"{name}={value}" for name, value in arguments.items()),
    }
    plugin = msgspec.to_builtins(entry(mesh.run_dir(state, node), ""))
    interface = {"name": "eth0", "sandbox": environment["CNI_NETNS"]}
    ips = [
        {"address": f"{address}/{address.max_prefixlen}", "interface": 0}
        for address in topology.pod_addresses(pod, node)
    ]
    result = {"cniVersion": _VERSION, "interfaces": [interface], "ips": ips}
    config = {**plugin, "cniVersion": _VERSION, "name": "warren-lab", "prevResult": result}
    done = subprocess.run(
        [BINARY], input=json.dumps(config), env=environment, capture_output=True, text=True, timeout=_WITHIN,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"pod {pod.namespace}/{pod.name}: {_reason(done.stdout)}")


def _reason(output: str) -> str:
    """What the plugin's error says (CNI specification, section 5, Error)."""
    try:
        error = json.loads(output)
        return f"{error['msg']}: {error['details']}"
    except (ValueError, KeyError, TypeError):
        return f"the CNI plugin failed: {output.strip() or 'it said nothing'}"
