"""The stage: the lab's pods, a pair for each path, and the proxies between them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from agent.lab import Lab, topology
from bench import envoy, tools
from bench.path import DataPath
from bench.pods import Pod
from bench.processes import Processes
from bench.settings import Settings

LAB, ZTUNNEL_LAB = "wt-bench", "wt-bench-ztunnel"
"""Names of our labs, beside the user's own. ztunnel has one to itself: a node has one tunnel."""
NAMESPACE = "bench"
ENROLLED = ("warren", "warren-node", "ztunnel")


@contextmanager
def stage(settings: Settings, processes: Processes) -> Iterator[list[DataPath]]:
    """Bring up the labs with all paths of `settings`; all is gone afterwards. Raises LabError, BenchError.

    What a run left behind that was killed is taken away first.
    """
    for name in (LAB, ZTUNNEL_LAB):
        Lab.remove(name)
    conf = settings.out / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        labs: dict[str, Lab] = {}
        if own := [name for name in settings.paths if name != "ztunnel"]:
            labs = dict.fromkeys(own, _lab(stack, LAB, own, conf))
        if settings.ztunnel and "ztunnel" in settings.paths:
            labs["ztunnel"] = _lab(stack, ZTUNNEL_LAB, ["ztunnel"], conf, settings.ztunnel)
        stack.callback(processes.close)
        yield [_path(name, labs[name], processes, conf) for name in settings.paths]


def _lab(stack: ExitStack, name: str, paths: list[str], conf: Path, ztunnel: Path | None = None) -> Lab:
    """A lab of two nodes with the pods of some paths."""
    manifest = conf / f"{name}.yaml"
    manifest.write_text(yaml.safe_dump_all(manifests(paths)))
    meshed = any(path in ENROLLED for path in paths)
    ztunnels = dict.fromkeys(("node1", "node2"), ztunnel) if ztunnel else {}
    lab = Lab.up([manifest], name=name, meshed=meshed, access_log="off", ztunnels=ztunnels)
    return stack.enter_context(lab)


def manifests(paths: list[str]) -> list[dict[str, Any]]:
    """A client and a server pod for each path, each with a service account of its own."""
    objects: list[dict[str, Any]] = [{"kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for path in paths:
        for side, node in zip(("client", "server"), nodes_of(path), strict=True):
            mode = "ambient" if path in ENROLLED else "none"
            meta = {"name": f"{path}-{side}", "namespace": NAMESPACE}
            spec = {
                "nodeName": node,
                "serviceAccountName": meta["name"],
                "containers": [{"name": "x", "image": "x"}],
            }
            objects.append({"kind": "ServiceAccount", "metadata": meta})
            labels = {"istio.io/dataplane-mode": mode}
            objects.append({"kind": "Pod", "metadata": {**meta, "labels": labels}, "spec": spec})
    return [{"apiVersion": "v1", **each} for each in objects]


def _path(name: str, lab: Lab, processes: Processes, conf: Path) -> DataPath:
    client, server = (_pod(lab, f"{name}-{side}") for side in ("client", "server"))
    if name.startswith("envoy"):
        return envoy.start(name, processes, tools.find_envoy(), (client, server), conf)
    if name not in ENROLLED:
        return DataPath(name, client, server)
    nodes = sorted(set(nodes_of(name)))
    tunnels = {f"{node}/{pid}": pid for node in nodes for pid in lab.node(node).pids("tunnel")}
    direct = partial(_direct, lab, nodes[0]) if len(nodes) == 1 else None
    return DataPath(name, client, server, tunnels, direct=direct)


def nodes_of(path: str) -> tuple[str, str]:
    """Nodes of client and server."""
    return ("node1", "node1") if path.endswith("-node") else ("node1", "node2")


def _direct(lab: Lab, node: str) -> int:
    """Connections that have gone directly from pod to pod of a node, as its kernel counts them."""
    return lab.node(node).verdicts()["inbound_direct"]


def _pod(lab: Lab, name: str) -> Pod:
    pod = lab.pod(f"{NAMESPACE}/{name}")
    topology.settle(pod.place.netns)  # again: enrolment has added routes
    return Pod(name, pod.netns, pod.cgroup, str(pod.ipv4))
