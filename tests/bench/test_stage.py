"""The pods that each path gets."""

from typing import Any

from bench.settings import NAMES
from bench.stage import manifests


def pods(names: list[str]) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in manifests(names) if each["kind"] == "Pod"}


def test_each_path_has_a_client_and_a_server_of_its_own() -> None:
    found = pods(list(NAMES))
    assert set(found) == {f"{name}-{side}" for name in NAMES for side in ("client", "server")}
    accounts = {
        each["metadata"]["name"] for each in manifests(list(NAMES)) if each["kind"] == "ServiceAccount"
    }
    assert {pod["spec"]["serviceAccountName"] for pod in found.values()} == accounts


def test_the_ends_are_on_two_nodes_except_where_the_path_is_within_one() -> None:
    nodes = {name: pod["spec"]["nodeName"] for name, pod in pods(["warren", "warren-node"]).items()}
    assert nodes == {
        "warren-client": "node1",
        "warren-server": "node2",
        "warren-node-client": "node1",
        "warren-node-server": "node1",
    }


def test_only_pods_of_the_mesh_are_enrolled() -> None:
    modes = {
        name: pod["metadata"]["labels"]["istio.io/dataplane-mode"] for name, pod in pods(list(NAMES)).items()
    }
    assert {name for name, mode in modes.items() if mode == "ambient"} == {
        f"{path}-{side}"
        for path in ("warren", "warren-node", "baseline", "baseline-node", "ztunnel")
        for side in ("client", "server")
    }
