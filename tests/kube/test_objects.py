"""What a server makes of an object that it is given: names, metadata, defaults, types, conflicts."""

import re

import pytest

from tests.kube.cluster import Cluster, Object, pod

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def test_a_new_object_gets_its_metadata(cluster: Cluster, home: str, namespace: str) -> None:
    created = cluster.made(f"{home}/pods", pod("a", app="web"))
    assert (created["kind"], created["apiVersion"]) == ("Pod", "v1")
    metadata = created["metadata"]
    assert (metadata["name"], metadata["namespace"], metadata["labels"]) == ("a", namespace, {"app": "web"})
    assert re.fullmatch(UUID, metadata["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert metadata["generation"] == 1
    assert metadata["resourceVersion"].isdigit()
    assert cluster.ask("GET", f"{home}/pods/a").body == created


def test_writes_count_one_version_for_all_kinds(cluster: Cluster, home: str) -> None:
    first = cluster.made(f"{home}/pods", pod("a"))["metadata"]["resourceVersion"]
    second = cluster.made(f"{home}/configmaps", {"metadata": {"name": "a"}})["metadata"]["resourceVersion"]
    assert int(second) > int(first)
    assert int(cluster.version("/api/v1/nodes")) >= int(second)


def test_a_name_is_generated(cluster: Cluster, home: str) -> None:
    created = cluster.made(f"{home}/pods", {"metadata": {"generateName": "web-"}, "spec": {"containers": []}})
    assert re.fullmatch("web-[a-z0-9]{5}", created["metadata"]["name"])


@pytest.mark.parametrize(
    ("metadata", "reason", "field"),
    [
        ({}, "FieldValueRequired", "metadata.name"),
        ({"name": "Bad_Name"}, "FieldValueInvalid", "metadata.name"),
        ({"name": "grüße"}, "FieldValueInvalid", "metadata.name"),
        ({"generateName": "Bad_"}, "FieldValueInvalid", "metadata.generateName"),
        ({"name": "a", "labels": {"a b": "c"}}, "FieldValueInvalid", "metadata.labels"),
        ({"name": "a", "labels": {"a": "b c"}}, "FieldValueInvalid", "metadata.labels"),
        ({"name": "a", "labels": {"a": "b" * 64}}, "FieldValueInvalid", "metadata.labels"),
        ({"name": "a", "annotations": {"a b": "c"}}, "FieldValueInvalid", "metadata.annotations"),
        ({"name": "a", "annotations": {"a": "x" * 300_000}}, "FieldValueTooLong", "metadata.annotations"),
    ],
)
def test_wrong_metadata_are_named(
    cluster: Cluster, home: str, metadata: dict[str, object], reason: str, field: str
) -> None:
    answer = cluster.ask("POST", f"{home}/configmaps", {"metadata": metadata})
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    causes = [(cause["reason"], cause["field"]) for cause in answer.body["details"]["causes"]]
    assert (reason, field) in causes


@pytest.mark.parametrize(
    ("plural", "name"), [("services", "9lives"), ("services", "a.b"), ("configmaps", "a/b")]
)
def test_kinds_have_their_rules_for_names(cluster: Cluster, home: str, plural: str, name: str) -> None:
    answer = cluster.ask("POST", f"{home}/{plural}", {"metadata": {"name": name}, "spec": {}})
    assert answer.status == 422


def test_a_second_object_of_a_name_is_refused(cluster: Cluster, home: str) -> None:
    cluster.made(f"{home}/pods", pod("a"))
    answer = cluster.ask("POST", f"{home}/pods", pod("a"))
    assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")
    assert answer.body["details"] == {"name": "a", "kind": "pods"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{not json", 400),
        ({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"}}, 400),
        ({"metadata": {"name": "a", "namespace": "elsewhere"}, "spec": {}}, 400),
        ({"metadata": {"name": "a"}, "spec": {"nodeName": 5}}, 400),
        ({"metadata": {"name": "a"}, "spec": {"containers": {}}}, 400),
        ({"metadata": {"name": "a", "labels": {"a": 1}}, "spec": {}}, 400),
        ({"metadata": {"name": "a", "creationTimestamp": "x"}, "spec": {}}, 400),
        ({"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {}}, 500),
        ({"metadata": {"name": "a"}, "spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}, 400),
        ({"metadata": {"name": "a"}, "spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}, 400),
    ],
)  # fmt: skip
def test_a_body_that_is_no_such_object_is_refused(
    cluster: Cluster, home: str, body: object, status: int
) -> None:
    assert cluster.ask("POST", f"{home}/pods", body).status == status


def test_a_body_may_be_yaml_and_nothing_unknown(cluster: Cluster, home: str) -> None:
    text = b"metadata:\n  name: a\ndata:\n  key: value\n"
    assert cluster.ask("POST", f"{home}/configmaps", text, media_type="application/yaml").status == 201
    answer = cluster.ask("POST", f"{home}/configmaps", text, media_type="text/plain")
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")


def test_unknown_fields_are_dropped_or_refused(cluster: Cluster, home: str) -> None:
    body = {"metadata": {"name": "a", "nope": 1}, "spec": {"containers": [], "nope": 1}}
    strict = cluster.ask("POST", f"{home}/pods?fieldValidation=Strict", body)
    assert (strict.status, strict.body["reason"]) == (400, "BadRequest")
    assert '"metadata.nope"' in strict.body["message"]
    created = cluster.made(f"{home}/pods", body)
    assert "nope" not in created["metadata"]
    assert "nope" not in created["spec"]


@pytest.mark.parametrize(
    ("path", "content", "empty"),
    [
        ("discovery.k8s.io/v1/namespaces/{}/endpointslices", {"addressType": "IPv4"}, ["endpoints", "ports"]),
        ("rbac.authorization.k8s.io/v1/namespaces/{}/roles", {"rules": []}, ["rules"]),
    ],
)
def test_some_empty_lists_are_null(
    cluster: Cluster, namespace: str, path: str, content: Object, empty: list[str]
) -> None:
    path = "/apis/" + path.format(namespace)
    created = cluster.made(path, {"metadata": {"name": "a"}, **content})
    assert {field: created[field] for field in empty} == dict.fromkeys(empty)
    assert cluster.ask("PUT", f"{path}/a", created).body == created


def test_null_is_nothing(cluster: Cluster, home: str) -> None:
    created = cluster.made(f"{home}/pods", pod("a") | {"spec": {"containers": [], "nodeName": None}})
    assert "nodeName" not in created["spec"]


def test_text_of_any_language_is_kept(cluster: Cluster, home: str) -> None:
    cluster.made(f"{home}/configmaps", {"metadata": {"name": "a"}, "data": {"key": "grüße ☃ 𝄞 \u2028"}})
    assert cluster.ask("GET", f"{home}/configmaps/a").body["data"] == {"key": "grüße ☃ 𝄞 \u2028"}


def test_objects_have_a_size_that_is_the_largest(cluster: Cluster, home: str) -> None:
    large = {"metadata": {"name": "a"}, "data": {"key": "x" * 1_000_000}}
    assert cluster.ask("POST", f"{home}/configmaps", large).status == 201
    too_large = {"metadata": {"name": "b"}, "data": {"key": "x" * 2_000_000}}
    assert cluster.ask("POST", f"{home}/configmaps", too_large).status == 500
    body = {"metadata": {"name": "c"}, "data": {"key": "x" * 4_000_000}}
    assert cluster.ask("POST", f"{home}/configmaps", body).status == 413


def test_a_dry_run_changes_nothing(cluster: Cluster, home: str) -> None:
    assert cluster.ask("POST", f"{home}/pods?dryRun=All", pod("a")).status == 201
    assert cluster.ask("GET", f"{home}/pods/a").status == 404
    created = cluster.made(f"{home}/pods", pod("a"))
    assert cluster.ask("PUT", f"{home}/pods/a?dryRun=All", pod("a", app="x")).status == 200
    assert cluster.ask("DELETE", f"{home}/pods/a?dryRun=All").status == 200
    assert cluster.ask("GET", f"{home}/pods/a").body == created
    assert cluster.ask("POST", f"{home}/pods?dryRun=some", pod("b")).status == 422


def test_a_pod_gets_defaults(cluster: Cluster, home: str) -> None:
    body = pod("a")
    body["spec"]["containers"][0]["ports"] = [{"containerPort": 80}]
    body["spec"]["containers"][0]["resources"] = {"limits": {"cpu": 1, "memory": "1Mi"}}
    created = cluster.made(f"{home}/pods", body)
    assert created["status"] == {"phase": "Pending"}
    spec = created["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1", "memory": "1Mi"}}


def test_a_service_gets_an_address_of_its_own(cluster: Cluster, home: str) -> None:
    one = cluster.made(f"{home}/services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})[
        "spec"
    ]
    assert one["clusterIPs"] == [one["clusterIP"]]
    assert (one["type"], one["ipFamilies"]) == ("ClusterIP", ["IPv4"])
    assert one["ports"] == [{"port": 80, "targetPort": 80, "protocol": "TCP"}]
    taken = {"metadata": {"name": "b"}, "spec": {"clusterIP": one["clusterIP"], "ports": [{"port": 80}]}}
    assert cluster.ask("POST", f"{home}/services", taken).status == 422
    headless = {"metadata": {"name": "c"}, "spec": {"clusterIP": "None"}}
    assert cluster.made(f"{home}/services", headless)["spec"]["clusterIPs"] == ["None"]
    outside = {"metadata": {"name": "d"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}
    assert "clusterIP" not in cluster.made(f"{home}/services", outside)["spec"]


def test_a_secret_holds_base64(cluster: Cluster, home: str) -> None:
    created = cluster.made(f"{home}/secrets", {"metadata": {"name": "a"}, "data": {"key": "dmFsdWU="}})
    assert (created["type"], created["data"]) == ("Opaque", {"key": "dmFsdWU="})
    answer = cluster.ask("POST", f"{home}/secrets", {"metadata": {"name": "b"}, "data": {"key": "!"}})
    assert answer.status == 400


def test_times_of_a_lease_have_microseconds(cluster: Cluster, namespace: str) -> None:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease = {"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    assert cluster.made(leases, lease)["spec"] == lease["spec"]
    seconds = {"metadata": {"name": "b"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}}
    assert cluster.ask("POST", leases, seconds).status == 400
