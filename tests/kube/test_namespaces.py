"""The life of a namespace."""

from tests.kube.cluster import MERGE, Cluster, names, pod
from tests.support import wait


def test_a_namespace_is_active_and_not_empty(cluster: Cluster, namespace: str, home: str) -> None:
    found = cluster.ask("GET", home).body
    assert found["status"] == {"phase": "Active"}
    assert "namespace" not in found["metadata"]
    wait.until(lambda: cluster.ask("GET", f"{home}/serviceaccounts/default").status == 200)
    wait.until(lambda: cluster.ask("GET", f"{home}/configmaps/kube-root-ca.crt").status == 200)
    root = cluster.ask("GET", f"{home}/configmaps/kube-root-ca.crt").body["data"]["ca.crt"]
    assert root.startswith("-----BEGIN CERTIFICATE-----")
    assert {"default", "kube-system", namespace} <= set(names(cluster.ask("GET", "/api/v1/namespaces")))


def test_nothing_is_made_where_there_is_no_namespace(cluster: Cluster) -> None:
    answer = cluster.ask("POST", "/api/v1/namespaces/none-such/pods", pod("a"))
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["details"] == {"name": "none-such", "kind": "namespaces"}
    assert cluster.ask("POST", "/api/v1/pods", pod("a")).status == 405


def test_names_are_apart_by_namespace(cluster: Cluster, home: str) -> None:
    cluster.made(f"{home}/pods", pod("only-here"))
    assert cluster.ask("GET", f"{home}/pods/only-here").status == 200
    assert cluster.ask("GET", "/api/v1/namespaces/default/pods/only-here").status == 404


def test_a_deleted_namespace_is_emptied_first(cluster: Cluster, namespace: str, home: str) -> None:
    cluster.made(f"{home}/pods", pod("a", "node"))
    cluster.made(f"{home}/configmaps", {"metadata": {"name": "held", "finalizers": ["example.com/held"]}})
    version = cluster.version("/api/v1/namespaces")
    assert cluster.ask("DELETE", home).status == 200
    wait.until(lambda: cluster.ask("GET", home).body["status"]["phase"] == "Terminating")
    wait.until(lambda: cluster.ask("GET", f"{home}/pods/a").status == 404)
    refused = cluster.ask("POST", f"{home}/pods", pod("b"))
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    cluster.ask("PATCH", f"{home}/configmaps/held", {"metadata": {"finalizers": None}}, media_type=MERGE)
    wait.until(lambda: cluster.ask("GET", home).status == 404)
    selector = f"metadata.name={namespace}"
    with cluster.watch("/api/v1/namespaces", resourceVersion=version, fieldSelector=selector) as events:
        kinds = [events.next()[0] for _ in range(3)]
    assert kinds[0] == "MODIFIED"
    assert "ADDED" not in kinds


def test_some_namespaces_stay(cluster: Cluster) -> None:
    answer = cluster.ask("DELETE", "/api/v1/namespaces/default")
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
