"""Updates, patches, the status subresource and deletion."""

import pytest

from tests.kube.cluster import JSON, JSON_PATCH, MERGE, STRATEGIC, Cluster, Object, names, pod


@pytest.fixture
def pods(cluster: Cluster, home: str) -> str:
    """The path of pods, of which there is one, `a`."""
    cluster.made(f"{home}/pods", pod("a", "node", app="web"))
    return f"{home}/pods"


def read(cluster: Cluster, path: str) -> Object:
    answer = cluster.ask("GET", path)
    assert answer.status == 200, answer
    obj: Object = answer.body
    return obj


def test_an_update_replaces_all_but_identity(cluster: Cluster, pods: str) -> None:
    old = read(cluster, f"{pods}/a")
    new = {"metadata": {"name": "a", "labels": {"b": "c"}}, "spec": {"containers": []}}
    answer = cluster.ask("PUT", f"{pods}/a", new)
    assert answer.status == 200
    metadata = answer.body["metadata"]
    assert (metadata["labels"], metadata["generation"]) == ({"b": "c"}, 2)
    for kept in ("uid", "creationTimestamp", "namespace"):
        assert metadata[kept] == old["metadata"][kept]
    assert int(metadata["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert "nodeName" not in answer.body["spec"]


def test_an_update_that_changes_nothing_makes_no_version(cluster: Cluster, pods: str) -> None:
    old = read(cluster, f"{pods}/a")
    assert cluster.ask("PUT", f"{pods}/a", old).body == old
    assert cluster.ask("PATCH", f"{pods}/a", {}, media_type=MERGE).body == old


def test_an_update_of_an_old_version_is_refused(cluster: Cluster, pods: str) -> None:
    old = read(cluster, f"{pods}/a")
    cluster.ask("PATCH", f"{pods}/a", {"metadata": {"labels": {"b": "c"}}}, media_type=MERGE)
    answer = cluster.ask("PUT", f"{pods}/a", old)
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    version = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "labels": {"d": "e"}}}
    assert cluster.ask("PATCH", f"{pods}/a", version, media_type=MERGE).status == 409
    old["metadata"].pop("resourceVersion")
    assert cluster.ask("PUT", f"{pods}/a", old).status == 200


def test_an_update_of_another_object_is_refused(cluster: Cluster, pods: str) -> None:
    assert cluster.ask("PUT", f"{pods}/b", pod("b")).status == 404
    assert cluster.ask("PUT", f"{pods}/a", pod("b")).status == 400
    other = pod("a")
    other["metadata"]["uid"] = "other"
    assert cluster.ask("PUT", f"{pods}/a", other).status == 409


def test_a_lease_is_updated_by_its_version_only(cluster: Cluster, namespace: str) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease = cluster.made(leases, {"metadata": {"name": "a"}, "spec": {"holderIdentity": "one"}})
    lease["spec"]["holderIdentity"] = "two"
    assert cluster.ask("PUT", f"{leases}/a", lease).status == 200
    assert cluster.ask("PUT", f"{leases}/a", lease).status == 409
    lease["metadata"].pop("resourceVersion")
    assert cluster.ask("PUT", f"{leases}/a", lease).status == 422


def test_a_merge_patch_sets_and_removes(cluster: Cluster, pods: str) -> None:
    patch = {"metadata": {"labels": {"app": None, "tier": "x"}, "annotations": {"a": "b"}}}
    metadata = cluster.ask("PATCH", f"{pods}/a", patch, media_type=MERGE).body["metadata"]
    assert (metadata["labels"], metadata["annotations"]) == ({"tier": "x"}, {"a": "b"})
    assert metadata["generation"] == 1
    containers = {"spec": {"containers": [{"name": "other"}]}}
    spec = cluster.ask("PATCH", f"{pods}/a", containers, media_type=MERGE).body["spec"]
    assert [container["name"] for container in spec["containers"]] == ["other"]


def test_a_json_patch_goes_step_by_step(cluster: Cluster, pods: str) -> None:
    steps = [
        {"op": "test", "path": "/metadata/labels/app", "value": "web"},
        {"op": "replace", "path": "/metadata/labels/app", "value": "db"},
        {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "1"}},
        {"op": "copy", "from": "/metadata/annotations/a~1b", "path": "/metadata/annotations/d"},
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "last"}},
        {"op": "add", "path": "/spec/containers/0", "value": {"name": "first"}},
        {"op": "remove", "path": "/spec/containers/1"},
    ]
    patched = cluster.ask("PATCH", f"{pods}/a", steps, media_type=JSON_PATCH).body
    assert patched["metadata"]["labels"] == {"app": "db"}
    assert patched["metadata"]["annotations"] == {"a/b": "1", "d": "1"}
    assert [container["name"] for container in patched["spec"]["containers"]] == ["first", "last"]


@pytest.mark.parametrize(
    ("patch", "media_type", "status"),
    [
        ([{"op": "test", "path": "/metadata/name", "value": "b"}], JSON_PATCH, 422),
        ([{"op": "remove", "path": "/metadata/nope"}], JSON_PATCH, 422),
        ({"metadata": {}}, JSON_PATCH, 400),
        ({"spec": 5}, MERGE, 422),
        ({"metadata": {"labels": {"a b": "c"}}}, MERGE, 422),
        ({}, JSON, 415),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(
    cluster: Cluster, pods: str, patch: object, media_type: str, status: int
) -> None:
    before = read(cluster, f"{pods}/a")
    assert cluster.ask("PATCH", f"{pods}/a", patch, media_type=media_type).status == status
    assert read(cluster, f"{pods}/a") == before


def test_a_patch_of_nothing_is_not_found(cluster: Cluster, pods: str) -> None:
    assert cluster.ask("PATCH", f"{pods}/b", {}, media_type=MERGE).status == 404


def test_a_strategic_patch_merges_lists_by_their_keys(cluster: Cluster, pods: str) -> None:
    containers = [{"name": "main", "image": "new"}, {"name": "other", "image": "x"}]
    spec = cluster.ask("PATCH", f"{pods}/a", {"spec": {"containers": containers}}, media_type=STRATEGIC).body[
        "spec"
    ]
    images = {container["name"]: container["image"] for container in spec["containers"]}
    assert images == {"main": "new", "other": "x"}
    gone = {"spec": {"containers": [{"name": "other", "$patch": "delete"}]}}
    spec = cluster.ask("PATCH", f"{pods}/a", gone, media_type=STRATEGIC).body["spec"]
    assert [container["name"] for container in spec["containers"]] == ["main"]
    for kind, value in (("Ready", "False"), ("Initialized", "True"), ("Ready", "True")):
        patch = {"status": {"conditions": [{"type": kind, "status": value}]}}
        status = cluster.ask("PATCH", f"{pods}/a/status", patch, media_type=STRATEGIC).body["status"]
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Ready": "True",
        "Initialized": "True",
    }


def test_status_and_the_rest_are_written_apart(cluster: Cluster, pods: str) -> None:
    both = read(cluster, f"{pods}/a") | {"status": {"phase": "Running", "podIP": "10.0.0.1"}}
    both["metadata"]["labels"] = {"via": "main"}
    main = cluster.ask("PUT", f"{pods}/a", both).body
    assert (main["status"], main["metadata"]["labels"]) == ({"phase": "Pending"}, {"via": "main"})
    both["metadata"] |= {"resourceVersion": main["metadata"]["resourceVersion"], "labels": {"via": "status"}}
    both["spec"]["nodeName"] = "elsewhere"
    status = cluster.ask("PUT", f"{pods}/a/status", both).body
    assert status["status"] == {"phase": "Running", "podIP": "10.0.0.1"}
    assert (status["spec"]["nodeName"], status["metadata"]["labels"]) == ("node", {"via": "main"})
    assert status["metadata"]["generation"] == main["metadata"]["generation"]
    assert cluster.ask("GET", f"{pods}/a/status").body == status
    assert cluster.ask("PATCH", f"{pods}/b/status", {}, media_type=MERGE).status == 404


def test_a_status_cannot_be_created(cluster: Cluster, home: str) -> None:
    created = cluster.made(f"{home}/pods", pod("a") | {"status": {"phase": "Running"}})
    assert created["status"] == {"phase": "Pending"}


def test_a_deleted_object_is_gone(cluster: Cluster, home: str) -> None:
    created = cluster.made(f"{home}/configmaps", {"metadata": {"name": "a"}})
    answer = cluster.ask("DELETE", f"{home}/configmaps/a")
    details = {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}
    assert (answer.status, answer.body["status"], answer.body["details"]) == (200, "Success", details)
    again = cluster.ask("DELETE", f"{home}/configmaps/a")
    assert (again.status, again.body["reason"]) == (404, "NotFound")


def test_preconditions_of_a_deletion(cluster: Cluster, pods: str) -> None:
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        assert cluster.ask("DELETE", f"{pods}/a", {"preconditions": wrong}).status == 409
    metadata = read(cluster, f"{pods}/a")["metadata"]
    right = {key: metadata[key] for key in ("uid", "resourceVersion")}
    assert cluster.ask("DELETE", f"{pods}/a", {"preconditions": right}).status == 200
    assert cluster.ask("DELETE", f"{pods}/a?propagationPolicy=Nope").status == 422


def test_a_pod_on_a_node_has_time_to_end(cluster: Cluster, pods: str) -> None:
    marked = cluster.ask("DELETE", f"{pods}/a").body
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert marked["metadata"]["deletionTimestamp"] > marked["metadata"]["creationTimestamp"]
    assert marked["metadata"]["generation"] == 2
    assert cluster.ask("DELETE", f"{pods}/a").status == 200
    assert read(cluster, f"{pods}/a") == marked
    assert cluster.ask("DELETE", f"{pods}/a", {"gracePeriodSeconds": 0}).status == 200
    assert cluster.ask("GET", f"{pods}/a").status == 404


def test_a_pod_on_no_node_goes_at_once(cluster: Cluster, pods: str) -> None:
    cluster.made(pods, pod("b"))
    assert cluster.ask("DELETE", f"{pods}/b").status == 200
    assert cluster.ask("GET", f"{pods}/b").status == 404


def test_a_finalizer_holds_an_object(cluster: Cluster, home: str) -> None:
    path = f"{home}/configmaps"
    cluster.made(path, {"metadata": {"name": "a", "finalizers": ["example.com/held"]}})
    marked = cluster.ask("DELETE", f"{path}/a").body
    assert "deletionTimestamp" in marked["metadata"]
    assert cluster.ask("DELETE", f"{path}/a").body == marked
    kept = cluster.ask("PATCH", f"{path}/a", {"data": {"a": "b"}}, media_type=MERGE)
    assert (kept.status, kept.body["data"]) == (200, {"a": "b"})
    cluster.ask("PATCH", f"{path}/a", {"metadata": {"finalizers": None}}, media_type=MERGE)
    assert cluster.ask("GET", f"{path}/a").status == 404


def test_a_collection_is_deleted_by_selector(cluster: Cluster, home: str) -> None:
    for name, app in (("a", "x"), ("b", "y"), ("c", "x")):
        cluster.made(
            f"{home}/services",
            {"metadata": {"name": name, "labels": {"app": app}}, "spec": {"clusterIP": "None"}},
        )
    assert names(cluster.ask("DELETE", f"{home}/services?labelSelector=app%3Dx")) == ["a", "c"]
    assert names(cluster.ask("GET", f"{home}/services")) == ["b"]
