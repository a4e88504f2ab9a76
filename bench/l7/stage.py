"""The stage: for each path a client and both versions of a service, and the proxies between them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from agent.lab import Lab, topology
from agent.model.schema.objects import Key
from bench.l7 import envoy, route, waypoint
from bench.path import DataPath
from bench.pods import Pod
from bench.processes import Processes

LAB = "wt-bench-l7"
ZTUNNELS = f"{LAB}-ztunnel"
"""Names of the labs: a node has one tunnel."""
NAMESPACE = "bench"


@dataclass(frozen=True)
class Plan:
    """What a path is: what it goes through, on one node or two, and how many rules it has (0: none).

    Through `ztunnel` there is a waypoint before the service, which has the rules. Where it is `judged`, a
    policy of the servers allows by each request's method.
    """

    through: Literal["warren", "envoy", "ztunnel", "nothing"]
    nodes: tuple[str, str] = ("node1", "node2")
    rules: int = 2
    judged: bool = False


PLANS = {
    "warren": Plan("warren"),
    "envoy": Plan("envoy"),
    "warren-node": Plan("warren", ("node1", "node1")),
    "envoy-node": Plan("envoy", ("node1", "node1")),
    "warren-node-judged": Plan("warren", ("node1", "node1"), judged=True),
    "ambient": Plan("ztunnel"),
    # What client and server cost by themselves: no ratio can be better than theirs.
    "bare-node": Plan("nothing", ("node1", "node1")),
    "warren-l4": Plan("warren", rules=0),
    "warren-1000": Plan("warren", rules=1000),
}


MESHES = ("warren", "ztunnel")


@contextmanager
def stage(
    paths: Sequence[str], processes: Processes, out: Path, ztunnel: Path | None = None
) -> Iterator[tuple[list[DataPath], dict[str, int]]]:
    """Bring up all paths, and for each the pid of the server whose CPU time counts.

    `ztunnel` is its binary, for the paths through it. All is gone afterwards. Raises LabError, BenchError.
    """
    for name in (LAB, ZTUNNELS):
        Lab.remove(name)
    conf = out / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        labs: dict[str, Lab] = {}
        for name in (LAB, ZTUNNELS):
            if inside := [path for path in paths if _lab_of(path) == name]:
                lab = stack.enter_context(_lab(name, inside, conf, ztunnel))
                labs |= dict.fromkeys(inside, lab)
        stack.callback(processes.close)
        servers = {path: _serve(path, labs[path], processes, out) for path in paths}
        yield [_path(path, labs[path], processes, conf) for path in paths], servers


def _lab_of(path: str) -> str:
    return ZTUNNELS if PLANS[path].through == "ztunnel" else LAB


def _lab(name: str, paths: Sequence[str], conf: Path, ztunnel: Path | None) -> Lab:
    manifest = conf / f"{name}.yaml"
    manifest.write_text(yaml.safe_dump_all(_objects(paths)))
    ztunnels = dict.fromkeys(("node1", "node2"), ztunnel) if ztunnel and name == ZTUNNELS else {}
    return Lab.up([manifest], name=name, access_log="off", ztunnels=ztunnels)


def _objects(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for name in paths:
        plan = PLANS[name]
        client, server = plan.nodes
        yield from _pod(name, "client", client, plan)
        for version in route.VERSIONS:
            yield from _pod(name, version, server, plan)
        objects = route.objects(name, NAMESPACE, max(plan.rules, 2))
        if plan.through == "ztunnel":
            gate = f"{name}-{waypoint.ROLE}"
            objects[0]["metadata"] = {**objects[0]["metadata"], "labels": {waypoint.LABEL: gate}}
            yield from [objects[0], *waypoint.objects(gate, NAMESPACE, server)]
        else:
            yield from objects if plan.rules else objects[:1]
        if plan.judged:
            yield route.policy(name, NAMESPACE)


def _pod(path: str, role: str, node: str, plan: Plan) -> list[dict[str, Any]]:
    labels = {"istio.io/dataplane-mode": "ambient" if plan.through in MESHES else "none"}
    if role in route.VERSIONS:
        labels |= {"app": path, "version": role}
    return route.pod(f"{path}-{role}", NAMESPACE, node, labels)


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
        case "warren" | "ztunnel":
            pass
    address = lab.cluster.objects[Key("Service", NAMESPACE, name)]["spec"]["clusterIP"]
    # The last: a tunnel's keeper is before it.
    tunnels = {node: lab.node(node).pids("tunnel")[-1] for node in sorted(set(PLANS[name].nodes))}
    reach = {port: (address, port) for port in route.PORTS}
    if PLANS[name].through == "ztunnel":
        authority = lab.state.run / "ca"
        pod = _place(lab, name, waypoint.ROLE)
        tunnels |= waypoint.start(
            processes,
            pod,
            service=address,
            client=client.name,
            servers=servers,
            namespace=NAMESPACE,
            authority=authority,
            folder=conf,
        )
    return DataPath(name, client, servers[route.VERSIONS[0]], tunnels, reach)


def _place(lab: Lab, path: str, role: str) -> Pod:
    pod = lab.pod(f"{NAMESPACE}/{path}-{role}")
    topology.use_cubic(pod.place.netns)
    return Pod(f"{path}-{role}", pod.netns, pod.cgroup, str(pod.ipv4))
