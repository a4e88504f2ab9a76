"""The stage: the lab's pods, a pair for each path, and the proxies between them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from agent.lab import Lab, topology
from bench import baseline, envoy, hops, tools
from bench.path import DataPath
from bench.pods import Pod
from bench.processes import Processes
from bench.settings import NEEDS, Settings

LAB = "wt-bench"
"""Name of our lab, beside the user's own. Another tunnel has a lab to itself: a node has one tunnel."""
OTHER_LABS = {option: f"{LAB}-{option}" for option in NEEDS.values()}
NAMESPACE = "bench"
ENROLLED = ("warren", "warren-node", *NEEDS)


@contextmanager
def stage(settings: Settings, processes: Processes) -> Iterator[list[DataPath]]:
    """Bring up the labs with all paths of `settings`; all is gone afterwards. Raises LabError, BenchError.

    What a run left behind that was killed is taken away first.
    """
    for name in (LAB, *OTHER_LABS.values()):
        Lab.remove(name)
    conf = settings.out / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        labs: dict[str, Lab] = {}
        for name in (LAB, *OTHER_LABS.values()):
            if paths := [path for path in settings.paths if _lab_of(path) == name]:
                labs |= dict.fromkeys(paths, stack.enter_context(_lab(name, paths, conf, settings)))
        stack.callback(processes.close)
        yield [_path(name, labs[name], processes, conf) for name in settings.paths]


def _lab_of(path: str) -> str:
    """The name of the lab in which a path lies."""
    return OTHER_LABS[NEEDS[path]] if path in NEEDS else LAB


def _lab(name: str, paths: list[str], conf: Path, settings: Settings) -> Lab:
    """A lab of two nodes with the pods of some paths."""
    manifest = conf / f"{name}.yaml"
    manifest.write_text(yaml.safe_dump_all(manifests(paths)))
    if settings.baseline and name == OTHER_LABS["baseline"]:
        return baseline.lab_up(settings.baseline, name, manifest)
    ztunnels = {}
    if settings.ztunnel and name == OTHER_LABS["ztunnel"]:
        ztunnels = dict.fromkeys(("node1", "node2"), settings.ztunnel)
    meshed = any(path in ENROLLED for path in paths)
    return Lab.up([manifest], name=name, meshed=meshed, access_log="off", ztunnels=ztunnels)


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
    if name == "hops":
        return hops.start(name, processes, (client, server))
    if name not in ENROLLED:
        return DataPath(name, client, server)
    nodes = sorted(set(nodes_of(name)))
    pids = {node: lab.node(node).pids("tunnel") for node in nodes}
    tunnels = {node: carries for node, (*_, carries) in pids.items()}  # a keeper is first
    direct = partial(_direct, lab, nodes[0]) if len(nodes) == 1 else None
    helpers = {node: others for node, (*others, _) in pids.items()}
    return DataPath(name, client, server, tunnels, direct=direct, helpers=helpers)


def nodes_of(path: str) -> tuple[str, str]:
    """Nodes of client and server."""
    return ("node1", "node1") if path.endswith("-node") else ("node1", "node2")


def _direct(lab: Lab, node: str) -> int:
    """Connections that have gone directly from pod to pod of a node, as its kernel counts them."""
    return lab.node(node).verdicts()["inbound_direct"]


def _pod(lab: Lab, name: str) -> Pod:
    pod = lab.pod(f"{NAMESPACE}/{name}")
    topology.use_cubic(pod.place.netns)  # again: enrolment has added routes
    return Pod(name, pod.netns, pod.cgroup, str(pod.ipv4))
