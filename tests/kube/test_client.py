"""The unmodified `kubernetes` client: that its models, watches and errors work with the answers."""

import threading
from pathlib import Path

import pytest
from kubernetes import client, dynamic, watch
from kubernetes.client.exceptions import ApiException

from tests.kube.cluster import Cluster, pod
from tests.support import wait


def test_objects_of_the_client(cluster: Cluster, namespace: str) -> None:
    created = cluster.core.create_namespaced_pod(namespace, pod("a", "node", app="web"))
    assert created.metadata.creation_timestamp is not None
    read = cluster.core.read_namespaced_pod("a", namespace)
    read.metadata.labels["b"] = "c"
    replaced = cluster.core.replace_namespaced_pod("a", namespace, read)
    assert replaced.metadata.labels == {"app": "web", "b": "c"}
    with pytest.raises(ApiException) as refused:
        cluster.core.replace_namespaced_pod("a", namespace, created)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    patched = cluster.core.patch_namespaced_pod("a", namespace, {"metadata": {"labels": {"b": None}}})
    assert patched.metadata.labels == {"app": "web"}
    status = {"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert cluster.core.patch_namespaced_pod_status("a", namespace, status).status.pod_ip == "10.0.0.1"
    cluster.core.delete_namespaced_pod("a", namespace, grace_period_seconds=0)
    assert cluster.core.list_namespaced_pod(namespace).items == []


def test_its_watch_goes_on_over_several_requests(cluster: Cluster, namespace: str) -> None:
    seen: list[tuple[str, str]] = []
    watcher = watch.Watch()

    def follow() -> None:
        for event in watcher.stream(cluster.core.list_namespaced_config_map, namespace, timeout_seconds=20):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                watcher.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    wait.until(lambda: ("ADDED", "kube-root-ca.crt") in seen)
    cluster.core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}})
    cluster.core.delete_namespaced_config_map("a", namespace)
    thread.join(30)
    assert seen[-2:] == [("ADDED", "a"), ("DELETED", "a")]


def test_tokens_and_reviews_of_the_client(cluster: Cluster, namespace: str) -> None:
    wait.until(lambda: cluster.core.list_namespaced_service_account(namespace).items)
    body = {"spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600}}
    token = cluster.core.create_namespaced_service_account_token("default", namespace, body).status.token
    review = {"spec": {"token": token, "audiences": ["istio-ca"]}}
    status = client.AuthenticationV1Api(cluster.api).create_token_review(review).status
    assert status.user.username == f"system:serviceaccount:{namespace}:default"


def test_the_dynamic_client_discovers_kinds(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    kinds = dynamic.DynamicClient(cluster.api, cache_file=str(tmp_path / "kinds")).resources
    slices = kinds.get(api_version="discovery.k8s.io/v1", kind="EndpointSlice")
    slices.create({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []}, namespace=namespace)
    assert [each.metadata.name for each in slices.get(namespace=namespace).items] == ["a"]


def test_leases_and_endpoint_slices_of_the_client(cluster: Cluster, namespace: str) -> None:
    leases = client.CoordinationV1Api(cluster.api)
    lease = client.V1Lease(
        metadata=client.V1ObjectMeta(name="a"), spec=client.V1LeaseSpec(holder_identity="one")
    )
    created = leases.create_namespaced_lease(namespace, lease)
    created.spec.holder_identity = "two"
    assert leases.replace_namespaced_lease("a", namespace, created).spec.lease_transitions is None
    with pytest.raises(ApiException) as refused:
        leases.replace_namespaced_lease("a", namespace, created)
    assert refused.value.status == 409
