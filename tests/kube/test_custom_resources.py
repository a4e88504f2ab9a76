"""Custom resources: kinds that are defined, used and taken away while the server runs."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kube.cluster import MERGE, STRATEGIC, Cluster, Object, names
from tests.support import wait

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
HOST = {"type": "string", "maxLength": 9, "pattern": "^[a-z]*$"}
SPEC = {
    "type": "object",
    "required": ["hosts"],
    "properties": {
        "hosts": {"type": "array", "minItems": 1, "items": HOST},
        "weight": {"type": "integer", "default": 100, "minimum": 0, "maximum": 100},
        "mode": {"type": "string", "enum": ["A", "B"]},
        "port": {"x-kubernetes-int-or-string": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "to": {"type": "array", "items": {"type": "object", "properties": {"host": {"type": "string"}}}},
        "one": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        "free": FREE,
    },
}
HEAD = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
STATUS = {"default": {"phase": "New"}, **FREE}
SCHEMA = {"type": "object", "properties": {**HEAD, "spec": SPEC, "status": STATUS}}


@dataclass(frozen=True)
class Routes:
    """A definition of the test's own. `path`: of its objects; `all`: of those of all namespaces."""

    name: str
    group: str
    path: str
    all: str

    def made(self, name: str, **spec: object) -> Object:
        metadata = {"name": name}
        return {"apiVersion": f"{self.group}/v1", "kind": "Route", "metadata": metadata, "spec": spec}


def definition(group: str) -> Object:
    def version(name: str, storage: bool) -> Object:
        schema = {"openAPIV3Schema": SCHEMA}
        selectable = [{"jsonPath": ".spec.mode"}]
        served: Object = {"name": name, "served": True, "storage": storage, "schema": schema}
        return served | {"subresources": {"status": {}}, "selectableFields": selectable}

    kinds = {"plural": "routes", "kind": "Route", "shortNames": ["rt"]}
    spec = {"group": group, "scope": "Namespaced", "names": kinds}
    versions = [version("v1", True), version("v1beta1", False)]
    return {"metadata": {"name": f"routes.{group}"}, "spec": spec | {"versions": versions}}


def defined(cluster: Cluster, namespace: str, body: Object) -> Routes:
    """A definition in force."""
    cluster.made(DEFINITIONS, body)
    group = body["spec"]["group"]
    base = f"/apis/{group}/v1"
    wait.until(lambda: cluster.ask("GET", f"{base}/routes").status == 200)
    return Routes(f"routes.{group}", group, f"{base}/namespaces/{namespace}/routes", f"{base}/routes")


@pytest.fixture
def routes(cluster: Cluster, namespace: str) -> Iterator[Routes]:
    routes = defined(cluster, namespace, definition(f"{uuid.uuid4().hex[:8]}.example.com"))
    yield routes
    cluster.ask("DELETE", f"{DEFINITIONS}/{routes.name}")


def test_a_definition_says_when_it_is_in_force(cluster: Cluster, routes: Routes) -> None:
    def established() -> Object:
        found: Object = cluster.ask("GET", f"{DEFINITIONS}/{routes.name}").body
        conditions = found.get("status", {}).get("conditions") or []
        met = {condition["type"]: condition["status"] for condition in conditions}
        return found if met.get("Established") == "True" else {}

    found = wait.until(established)
    assert found["spec"]["names"]["listKind"] == found["status"]["acceptedNames"]["listKind"] == "RouteList"
    assert found["spec"]["names"]["singular"] == "route"
    assert found["status"]["storedVersions"] == ["v1"]


def test_what_is_not_defined_is_not_found(cluster: Cluster, routes: Routes) -> None:
    for path in ("/apis/none.example.com/v1/routes", f"/apis/{routes.group}/v2/routes"):
        assert cluster.ask("GET", path).status == 404
    assert cluster.ask("GET", f"{routes.path}/none").status == 404
    assert cluster.ask("GET", f"/apis/{routes.group}/v1/none").status == 404


def test_an_object_is_pruned_and_completed(cluster: Cluster, routes: Routes) -> None:
    body = routes.made(
        "a", hosts=["x"], nope=1, free={"x": {"y": 1}}, to=[{"host": "h", "nope": 1}], mode=None
    )
    created = cluster.made(routes.path, body | {"status": {"x": 1}, "nope": 1})
    assert created["spec"] == {"hosts": ["x"], "weight": 100, "free": {"x": {"y": 1}}, "to": [{"host": "h"}]}
    assert created["status"] == {"phase": "New"}
    assert "nope" not in created
    assert created["metadata"]["generation"] == 1
    strict = cluster.ask(
        "POST", f"{routes.path}?fieldValidation=Strict", routes.made("b", hosts=["x"], nope=1)
    )
    assert strict.status == 400


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"hosts": "x"}, "FieldValueTypeInvalid", "spec.hosts"),
        ({"hosts": [1]}, "FieldValueTypeInvalid", "spec.hosts[0]"),
        ({"hosts": []}, "FieldValueInvalid", "spec.hosts"),
        ({}, "FieldValueRequired", "spec.hosts"),
        ({"hosts": ["tenletters"]}, "FieldValueTooLong", "spec.hosts[0]"),
        ({"hosts": ["A"]}, "FieldValueInvalid", "spec.hosts[0]"),
        ({"hosts": ["x"], "weight": "5"}, "FieldValueTypeInvalid", "spec.weight"),
        ({"hosts": ["x"], "weight": 101}, "FieldValueInvalid", "spec.weight"),
        ({"hosts": ["x"], "weight": -1}, "FieldValueInvalid", "spec.weight"),
        ({"hosts": ["x"], "mode": "C"}, "FieldValueNotSupported", "spec.mode"),
        ({"hosts": ["x"], "port": 1.5}, "FieldValueTypeInvalid", "spec.port"),
        ({"hosts": ["x"], "labels": {"a": 1}}, "FieldValueTypeInvalid", "spec.labels.a"),
        ({"hosts": ["x"], "one": {"a": "", "b": ""}}, "FieldValueInvalid", "<nil>"),
        ({"hosts": ["x"], "free": 1}, "FieldValueTypeInvalid", "spec.free"),
    ],
)
def test_an_object_against_its_schema_is_refused(
    cluster: Cluster, routes: Routes, spec: Object, reason: str, field: str
) -> None:
    answer = cluster.ask("POST", routes.path, routes.made("a", **spec))
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert (reason, field) in [
        (cause["reason"], cause["field"]) for cause in answer.body["details"]["causes"]
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"name": "a"}, "spec": {"hosts": ["x"]}},
        {"apiVersion": "v1", "kind": "Route", "metadata": {"name": "a"}, "spec": {"hosts": ["x"]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"hosts": ["x"]}},
    ],
)
def test_an_object_says_what_it_is(cluster: Cluster, routes: Routes, body: Object) -> None:
    assert cluster.ask("POST", routes.path, body).status == 400


def test_updates_and_their_generation(cluster: Cluster, routes: Routes) -> None:
    created = cluster.made(routes.path, routes.made("a", hosts=["x"]))
    created["spec"]["weight"], created["status"] = 5, {"x": 1}
    updated = cluster.ask("PUT", f"{routes.path}/a", created).body
    assert (updated["spec"]["weight"], updated["metadata"]["generation"]) == (5, 2)
    assert updated["status"] == {"phase": "New"}
    assert cluster.ask("PUT", f"{routes.path}/a", created).status == 409
    created["metadata"].pop("resourceVersion")
    assert cluster.ask("PUT", f"{routes.path}/a", created).status == 422
    assert cluster.ask("PATCH", f"{routes.path}/a", {}, media_type=STRATEGIC).status == 415
    for free, kept in (({"x": 1, "y": 2}, {"x": 1, "y": 2}), ({"x": None}, {"y": 2})):
        patch = {"spec": {"free": free}}
        assert cluster.ask("PATCH", f"{routes.path}/a", patch, media_type=MERGE).body["spec"]["free"] == kept
    wrong = cluster.ask("PATCH", f"{routes.path}/a", {"spec": {"hosts": 5}}, media_type=MERGE)
    assert (wrong.status, wrong.body["reason"]) == (422, "Invalid")


def test_the_status_is_written_apart(cluster: Cluster, routes: Routes) -> None:
    cluster.made(routes.path, routes.made("a", hosts=["x"]))
    patch = {
        "status": {"conditions": [{"type": "Accepted"}]},
        "spec": {"weight": 1},
        "metadata": {"labels": {"a": "b"}},
    }
    patched = cluster.ask("PATCH", f"{routes.path}/a/status", patch, media_type=MERGE).body
    assert patched["status"] == {"phase": "New", "conditions": [{"type": "Accepted"}]}
    assert (patched["spec"]["weight"], patched["metadata"]["generation"]) == (100, 1)
    assert "labels" not in patched["metadata"]


def test_lists_and_watches(cluster: Cluster, routes: Routes) -> None:
    version = cluster.version(routes.path)
    cluster.made(routes.path, routes.made("a", hosts=["x"], mode="A"))
    cluster.made(routes.path, routes.made("b", hosts=["x"], mode="B"))
    listed = cluster.ask("GET", routes.all)
    assert (listed.body["kind"], listed.body["apiVersion"]) == ("RouteList", f"{routes.group}/v1")
    assert listed.body["items"][0]["kind"] == "Route"
    assert names(cluster.ask("GET", f"{routes.path}?fieldSelector=spec.mode%3DB")) == ["b"]
    assert cluster.ask("GET", f"{routes.path}?fieldSelector=spec.weight%3D1").status == 400
    assert names(cluster.ask("GET", f"{routes.path}?limit=1")) == ["a"]
    with cluster.watch(routes.all, resourceVersion=version) as events:
        assert events.names(2) == [("ADDED", "a"), ("ADDED", "b")]


def test_all_versions_show_the_same_objects(cluster: Cluster, routes: Routes) -> None:
    cluster.made(routes.path, routes.made("a", hosts=["x"]))
    other = cluster.ask("GET", f"{routes.path}/a".replace("/v1/", "/v1beta1/")).body
    assert (other["apiVersion"], other["spec"]["hosts"]) == (f"{routes.group}/v1beta1", ["x"])


def test_a_definition_goes_with_its_objects(cluster: Cluster, routes: Routes) -> None:
    cluster.made(routes.path, routes.made("a", hosts=["x"]))
    version = cluster.version(routes.path)
    with cluster.watch(routes.all, resourceVersion=version) as events:
        assert cluster.ask("DELETE", f"{DEFINITIONS}/{routes.name}").status == 200
        assert events.names(1) == [("DELETED", "a")]
    wait.until(lambda: cluster.ask("GET", f"{DEFINITIONS}/{routes.name}").status == 404)
    wait.until(lambda: cluster.ask("GET", routes.all).status == 404)


def test_a_definition_comes_back_without_the_old_objects(cluster: Cluster, namespace: str) -> None:
    body = definition(f"{uuid.uuid4().hex[:8]}.example.com")
    for _ in range(2):
        routes = defined(cluster, namespace, body)
        assert names(cluster.ask("GET", routes.all)) == []
        cluster.made(routes.path, routes.made("a", hosts=["x"]))
        cluster.ask("DELETE", f"{DEFINITIONS}/{routes.name}")
        wait.until(lambda: cluster.ask("GET", routes.all).status == 404)  # noqa: B023
        wait.until(lambda: cluster.ask("GET", f"{DEFINITIONS}/{routes.name}").status == 404)  # noqa: B023


@pytest.mark.parametrize(
    "change",
    [{"scope": "Nope"}, {"group": "other.example.com"}, {"versions": []}, {"names": {"plural": "routes"}}],
)
def test_a_definition_may_be_wrong(cluster: Cluster, change: Object) -> None:
    body = definition("wrong.example.com")
    body["spec"] |= change
    answer = cluster.ask("POST", DEFINITIONS, body)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
