"""Bookinfo as it is on a cluster where all of it runs: the sample, and what controllers make of it."""

from pathlib import Path
from typing import Any

import yaml

from agent.kube.client import MERGE, path_of
from agent.model import kinds
from tests.support.cluster import Cluster
from tests.support.samples import BOOKINFO

_ZONE = {"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "z1"}


def objects(namespace: str) -> list[Any]:
    """Node, Services, accounts, and one pod of each Deployment; not the namespace itself."""
    found: list[Any] = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace, "labels": _ZONE}}
    ]
    for number, one in enumerate(filter(None, yaml.safe_load_all(BOOKINFO.read_text()))):
        if one["kind"] == "Deployment":
            found.append(_pod(one, number, namespace))
            continue
        one["metadata"]["namespace"] = namespace
        if one["kind"] == "Service":
            one["spec"] |= {"clusterIP": f"10.96.200.{number}", "clusterIPs": [f"10.96.200.{number}"]}
        found.append(one)
    return found


def _pod(deployment: Any, number: int, namespace: str) -> Any:
    name, template = deployment["metadata"]["name"], deployment["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-5d8f", "uid": f"u{number}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-5d8f-x{number}",
            "namespace": namespace,
            "labels": {**template["metadata"]["labels"], "pod-template-hash": "5d8f"},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {**template["spec"], "nodeName": namespace},
        "status": {
            "phase": "Running",
            "podIP": f"10.1.0.{number}",
            "podIPs": [{"ip": f"10.1.0.{number}"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def write(folder: Path, items: list[Any]) -> None:
    """As manifests."""
    (folder / "bookinfo.yaml").write_text(yaml.safe_dump_all(items))


def create(cluster: Cluster, items: list[Any]) -> None:
    """On an API server."""
    for item in items:
        steps = collection(item)
        cluster.post(item, *steps)
        if status := item.get("status"):
            path = path_of(*steps, item["metadata"]["name"], "status")
            cluster.client.request("PATCH", path, body={"status": status}, content_type=MERGE)


def collection(item: Any) -> tuple[str, ...]:
    """Where an API server has objects of this kind, in this namespace."""
    kind = kinds.find(item["apiVersion"], item["kind"])
    assert kind
    group = ("apis", kind.group) if kind.group else ("api",)
    within = ("namespaces", item["metadata"]["namespace"]) if kind.namespaced else ()
    return (*group, kind.versions[0], *within, kind.plural)
