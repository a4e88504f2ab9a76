"""The stage: for each path a client and both versions of a service, and the proxies between them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from agent.lab import Lab, topology
from agent.model.schema.objects import Key
from bench.l7 import envoy, route
from bench.path import DataPath
from bench.pods import Pod
from bench.processes import Processes

LAB = "wt-bench-l7"
NAMESPACE = "bench"


@dataclass(frozen=True)
class Plan:
    """What a path is: what it goes through, on one node or two, and how many rules it has (0: none)."""

    through: Literal["warren", "envoy", "nothing"]
    nodes: tuple[str, str] = ("node1", "node2")
    rules: int = 2


PLANS = {
    "warren": Plan("warren"),
    "envoy": Plan("envoy"),
    "warren-node": Plan("warren", ("node1", "node1")),
    "envoy-node": Plan("envoy", ("node1", "node1")),
    # What client and server cost by themselves: no ratio can be better than theirs.
    "bare-node": Plan("nothing", ("node1", "node1")),
    "warren-l4": Plan("warren", rules=0),
    "warren-1000": Plan("warren", rules=1000),
}


@contextmanager
def stage(
    paths: Sequence[str], processes: Processes, out: Path
) -> Iterator[tuple[list[DataPath], dict[str, int]]]:
    """Bring up all paths, and for each the pid of the server whose CPU time counts.

    All is gone afterwards. Raises LabError, BenchError.
    """
    Lab.remove(LAB)
    conf = out / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    manifest = conf / "lab.yaml"
    manifest.write_text(yaml.safe_dump_all(_objects(paths)))
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.up([manifest], name=LAB, access_log="off"))
        stack.callback(processes.close)
        servers = {name: _serve(name, lab, processes, out) for name in paths}
        yield [_path(name, lab, processes, conf) for name in paths], servers


def _objects(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for name in paths:
        plan = PLANS[name]
        client, server = plan.nodes
        yield from _pod(name, "client", client, plan)
        for version in route.VERSIONS:
            yield from _pod(name, version, server, plan)
        objects = route.objects(name, NAMESPACE, max(plan.rules, 2))
        yield from objects if plan.rules else objects[:1]


def _pod(path: str, role: str, node: str, plan: Plan) -> Iterator[dict[str, Any]]:
    meta = {"name": f"{path}-{role}", "namespace": NAMESPACE}
    labels = {"istio.io/dataplane-mode": "ambient" if plan.through == "warren" else "none"}
    if role in route.VERSIONS:
        labels |= {"app": path, "version": role}
    spec = {"nodeName": node, "serviceAccountName": meta["name"], "containers": [{"name": "x", "image": "x"}]}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "labels": labels}, "spec": spec}


def _serve(path: str, lab: Lab, processes: Processes, out: Path) -> int:
    """Start the servers of both versions. The pid is that of the first version's server of small answers."""
    files = out / "files"
    files.mkdir(exist_ok=True)
    (files / "index.html").write_text("hello\n")
    pids = []
    for version in route.VERSIONS:
        pod, load = _place(lab, path, version), str(processes.load)
        answer = [load, "answer", f"0.0.0.0:{route.HTTP}", f"0.0.0.0:{route.DOWNLOAD}"]
        pids.append(processes.start(f"{path}-{version}-http", pod, answer))
        http2 = ["nghttpd", "--no-tls", "-d", str(files), str(route.HTTP2)]
        processes.start(f"{path}-{version}-http2", pod, http2)
    return pids[0]


def _path(name: str, lab: Lab, processes: Processes, conf: Path) -> DataPath:
    client = _place(lab, name, "client")
    servers = {version: _place(lab, name, version) for version in route.VERSIONS}
    match PLANS[name].through:
        case "envoy":
            return envoy.start(name, processes, client, servers, conf)
        case "nothing":
            return DataPath(name, client, servers[route.VERSIONS[0]])
        case "warren":
            pass
    address = lab.cluster.objects[Key("Service", NAMESPACE, name)]["spec"]["clusterIP"]
    # The last: a tunnel's keeper is before it.
    tunnels = {node: lab.node(node).pids("tunnel")[-1] for node in sorted(set(PLANS[name].nodes))}
    reach = {port: (address, port) for port in route.PORTS}
    return DataPath(name, client, servers[route.VERSIONS[0]], tunnels, reach)


def _place(lab: Lab, path: str, role: str) -> Pod:
    pod = lab.pod(f"{NAMESPACE}/{path}-{role}")
    topology.use_cubic(pod.place.netns)
    return Pod(f"{path}-{role}", pod.netns, pod.cgroup, str(pod.ipv4))
