"""What a running lab looks like: plain data for `warren lab status`."""

from typing import Any

from agent.lab import mesh, process
from agent.lab.lab import Lab

Row = dict[str, Any]


def status(lab: Lab) -> dict[str, list[Row]]:
    """Nodes with their processes, pods, and Services; each process with pid and resident bytes.

    problems: files of the lab that are of no use, as `text`.
    """
    problems: list[Row] = [{"text": line} for line in lab.problems]
    return {"nodes": _nodes(lab), "pods": _pods(lab), "services": _services(lab), "problems": problems}


def _nodes(lab: Lab) -> list[Row]:
    return [
        {
            "name": node.name,
            "netns": node.netns.name,
            "addresses": [str(node.ipv4), str(node.ipv6)],
            "processes": {role: _processes(node.pids(role)) for role in mesh.roles(lab.state, node.place)},
        }
        for node in lab.nodes
    ]


def _pods(lab: Lab) -> list[Row]:
    return [
        {
            "namespace": pod.namespace,
            "name": pod.name,
            "node": pod.node,
            "netns": pod.netns.name,
            "addresses": [str(pod.ipv4), str(pod.ipv6)],
            "enrolled": lab.enrolled(pod),
            "captured": pod.captured(),
            "processes": _processes(pod.pids()),
        }
        for pod in lab.pods
    ]


def _services(lab: Lab) -> list[Row]:
    return [
        {
            "namespace": body["metadata"]["namespace"],
            "name": body["metadata"]["name"],
            "addresses": body["spec"].get("clusterIPs", []),
            "ports": [f"{port['port']}/{port['protocol']}" for port in body["spec"].get("ports", [])],
        }
        for body in lab.cluster.of_kind("Service")
    ]


def _processes(pids: list[int]) -> list[Row]:
    return [{"pid": pid, "resident_bytes": process.resident_bytes(pid)} for pid in pids]
