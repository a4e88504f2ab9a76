"""What kinds there are, how a client finds them, and that each can be stored."""

import pytest

from tests.kube.cluster import MERGE, Cluster, Object, names

READ_WRITE = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
SUBJECT = {"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}


def path(group: str, resource: str, namespace: str = "") -> str:
    """The path of a resource of a group at v1, in a namespace where it is given."""
    base = f"/apis/{group}/v1" if group else "/api/v1"
    return f"{base}/namespaces/{namespace}/{resource}" if namespace else f"{base}/{resource}"


NAMESPACED: list[tuple[str, str, Object]] = [
    ("", "configmaps", {"data": {"a": "b"}, "binaryData": {"c": "ZA=="}}),
    ("", "endpoints", {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
    ("", "events", {"involvedObject": {"kind": "Pod", "name": "a"}, "reason": "Why", "type": "Warning"}),
    ("", "pods", {"spec": {"containers": [{"name": "c"}], "nodeName": "n"}}),
    ("", "secrets", {"data": {"a": "Yg=="}, "type": "example.com/type"}),
    ("", "serviceaccounts", {"imagePullSecrets": [{"name": "a"}]}),
    ("", "services", {"spec": {"clusterIP": "None", "ports": [{"port": 80, "targetPort": "http"}]}}),
    ("apps", "daemonsets", {"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
    ("apps", "deployments", {"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}}),
    ("coordination.k8s.io", "leases", {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}),
    (
        "discovery.k8s.io",
        "endpointslices",
        {
            "addressType": "IPv6",
            "endpoints": [{"addresses": ["fd00::1"], "conditions": {"ready": False}, "zone": "z"}],
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        },
    ),
    (
        "rbac.authorization.k8s.io",
        "roles",
        {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]},
    ),
    (
        "rbac.authorization.k8s.io",
        "rolebindings",
        {
            "roleRef": {"kind": "Role", "name": "a", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [SUBJECT],
        },
    ),
]
CLUSTER: list[tuple[str, str, Object]] = [
    ("", "nodes", {"spec": {"podCIDR": "10.0.0.0/24"}, "metadata": {"labels": {"a": "b"}}}),
    ("rbac.authorization.k8s.io", "clusterroles", {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
    (
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        {
            "roleRef": {"kind": "ClusterRole", "name": "a", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [SUBJECT],
        },
    ),
]
ALL = [*NAMESPACED, *CLUSTER]


@pytest.mark.parametrize(("group", "resource", "content"), ALL, ids=[resource for _, resource, _ in ALL])
def test_an_object_of_each_kind(
    cluster: Cluster, namespace: str, group: str, resource: str, content: Object
) -> None:
    where = path(group, resource, namespace if (group, resource, content) in NAMESPACED else "")
    metadata = {"name": namespace} | content.get("metadata", {})
    created = cluster.made(where, content | {"metadata": metadata})
    one = f"{where}/{namespace}"
    try:
        assert kept(created, content | {"metadata": metadata}) is None
        assert cluster.ask("GET", one).body == created
        assert namespace in names(cluster.ask("GET", path(group, resource)))
        version = created["metadata"]["resourceVersion"]
        patched = cluster.ask("PATCH", one, {"metadata": {"labels": {"x": "y"}}}, media_type=MERGE).body
        assert patched["metadata"]["labels"]["x"] == "y"
        selector = f"metadata.name={namespace}"
        with cluster.watch(where, resourceVersion=version, fieldSelector=selector) as events:
            assert events.next() == ("MODIFIED", patched)
    finally:
        cluster.ask("DELETE", one, {"gracePeriodSeconds": 0})
    assert cluster.ask("GET", one).status == 404


def kept(found: object, wanted: object, where: str = "") -> str | None:
    """The first place where something wanted is not found; more may be found than wanted."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        places = (kept(found.get(key), value, f"{where}.{key}") for key, value in wanted.items())
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        places = (kept(*pair, f"{where}[{at}]") for at, pair in enumerate(zip(found, wanted, strict=True)))
    else:
        return None if found == wanted else f"{where}: {found} is not {wanted}"
    return next((place for place in places if place), None)


def test_groups_and_versions(cluster: Cluster) -> None:
    assert cluster.ask("GET", "/api").body["versions"] == ["v1"]
    answer = cluster.ask("GET", "/apis").body
    assert answer["kind"] == "APIGroupList"
    groups = {group["name"]: group for group in answer["groups"]}
    wanted = {group for group, _, _ in ALL if group}
    assert wanted | {"apiextensions.k8s.io", "authentication.k8s.io", "authorization.k8s.io"} <= set(groups)
    version = {"groupVersion": "apps/v1", "version": "v1"}
    assert (groups["apps"]["versions"], groups["apps"]["preferredVersion"]) == ([version], version)
    assert cluster.ask("GET", "/apis/apps").body["versions"] == [version]
    for nothing in ("/apis/none.example.com", "/apis/none.example.com/v1", "/apis/apps/v9"):
        assert cluster.ask("GET", nothing).status == 404


@pytest.mark.parametrize(("group", "resource", "content"), ALL, ids=[resource for _, resource, _ in ALL])
def test_a_kind_is_discovered(cluster: Cluster, group: str, resource: str, content: Object) -> None:
    base = path(group, "").rstrip("/")
    answer = cluster.ask("GET", base).body
    assert (answer["kind"], answer["groupVersion"]) == ("APIResourceList", f"{group}/v1".lstrip("/"))
    found = next(each for each in answer["resources"] if each["name"] == resource)
    assert found["namespaced"] == ((group, resource, content) in NAMESPACED)
    assert set(found["verbs"]) == READ_WRITE
    assert found["singularName"] == found["kind"].lower()


def test_subresources_are_discovered(cluster: Cluster) -> None:
    found = {each["name"]: each for each in cluster.ask("GET", "/api/v1").body["resources"]}
    assert set(found["pods/status"]["verbs"]) == {"get", "patch", "update"}
    token = found["serviceaccounts/token"]
    assert (token["kind"], token["group"], token["verbs"]) == (
        "TokenRequest",
        "authentication.k8s.io",
        ["create"],
    )


def test_a_server_says_how_it_is(cluster: Cluster) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert cluster.ask("GET", path).body == "ok"
    version = cluster.ask("GET", "/version").body
    assert version["major"] == "1"
    assert version["gitVersion"].startswith(f"v1.{version['minor'].rstrip('+')}.")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/v1/pods"),
        ("POST", "/api/v1/namespaces/default/pods/a"),
        ("OPTIONS", "/api/v1/namespaces/default/pods"),
        ("GET", "/api/v1/namespaces/default/serviceaccounts/default/token"),
        ("DELETE", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
    ],
)
def test_a_method_that_does_not_fit(cluster: Cluster, method: str, path: str) -> None:
    answer = cluster.ask(method, path, {} if method in ("PUT", "POST") else None)
    assert (answer.status, answer.body["reason"]) == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    "path", ["/api/v1/none", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt/status"]
)
def test_a_resource_that_is_not_served(cluster: Cluster, path: str) -> None:
    answer = cluster.ask("GET", path)
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["details"] == {}
