"""Role-based access: who may do what, and what others are told."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kube.cluster import MERGE, Answer, Cluster, Object, pod
from tests.support import wait

RBAC = "rbac.authorization.k8s.io"
REVIEWS = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True)
class Account:
    """A service account, and requests of its bearer."""

    cluster: Cluster
    namespace: str
    token: str

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:agent"

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        media_type = MERGE if method == "PATCH" else "application/json"
        return self.cluster.ask(method, path, body, token=self.token, media_type=media_type)

    def bind(self, rules: list[Object], subject: Object | None = None) -> None:
        """A role in the namespace, and its binding; to the account unless another subject is given."""
        path = f"/apis/{RBAC}/v1/namespaces/{self.namespace}"
        self.cluster.made(f"{path}/roles", {"metadata": {"name": "role"}, "rules": rules})
        subject = subject or {"kind": "ServiceAccount", "name": "agent", "namespace": self.namespace}
        ref = {"apiGroup": RBAC, "kind": "Role", "name": "role"}
        binding = {"metadata": {"name": "binding"}, "roleRef": ref, "subjects": [subject]}
        self.cluster.made(f"{path}/rolebindings", binding)

    def allowed(self, method: str, path: str, body: object = None) -> None:
        """Wait until a request succeeds: roles take a moment to be known."""
        wait.until(lambda: self.ask(method, path, body).status in (200, 201), what=f"{method} {path}")


@pytest.fixture
def agent(cluster: Cluster, namespace: str, home: str) -> Account:
    cluster.made(f"{home}/serviceaccounts", {"metadata": {"name": "agent"}})
    for name in "ab":
        cluster.made(f"{home}/pods", pod(name))
    token = cluster.made(f"{home}/serviceaccounts/agent/token", {"spec": {}})["status"]["token"]
    return Account(cluster, namespace, token)


@pytest.fixture
def unique(namespace: str, cluster: Cluster) -> Iterator[str]:
    """A name for what lies in no namespace; the cluster role and its binding of that name are removed."""
    yield namespace
    for plural in ("clusterrolebindings", "clusterroles"):
        cluster.ask("DELETE", f"/apis/{RBAC}/v1/{plural}/{namespace}")


def rule(verbs: str, *resources: str, group: str = "", **more: object) -> Object:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": list(resources), **more}


def test_nothing_is_allowed_but_to_look_around(agent: Account, home: str) -> None:
    for path in ("/api", "/api/v1", "/apis", "/version", "/healthz"):
        assert agent.ask("GET", path).status == 200
    for path in (f"{home}/pods", f"{home}/pods/a", f"{home}/nothing", "/metrics"):
        answer = agent.ask("GET", path)
        assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    message = agent.ask("GET", f"{home}/pods").body["message"]
    where = f'resource "pods" in API group "" in the namespace "{agent.namespace}"'
    assert message.startswith(f'pods is forbidden: User "{agent.user}" cannot list {where}')
    cluster_scope = agent.ask("GET", "/api/v1/nodes/x").body["message"]
    assert 'nodes "x" is forbidden' in cluster_scope
    assert "at the cluster scope" in cluster_scope


def test_a_role_allows_its_verbs_in_its_namespace(agent: Account, home: str) -> None:
    agent.bind([rule("get list watch", "pods"), rule("create", "configmaps")])
    agent.allowed("GET", f"{home}/pods")
    assert agent.ask("GET", f"{home}/pods/a").status == 200
    assert agent.ask("POST", f"{home}/configmaps", {"metadata": {"name": "a"}}).status == 201
    with agent.cluster.watch(f"{home}/pods", token=agent.token) as events:
        assert events.status == 200
    for method, path in (
        ("DELETE", f"{home}/pods/a"),
        ("DELETE", f"{home}/pods"),
        ("GET", f"{home}/configmaps"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces/default/pods"),
    ):
        assert agent.ask(method, path).status == 403, path


def test_a_subresource_is_apart(agent: Account, home: str) -> None:
    agent.bind([rule("patch", "pods/status")])
    patch = {"status": {"phase": "Running"}}
    agent.allowed("PATCH", f"{home}/pods/a/status", patch)
    assert agent.ask("PATCH", f"{home}/pods/a", {"metadata": {"labels": {"a": "b"}}}).status == 403
    assert agent.ask("GET", f"{home}/pods/a/status").status == 403
    assert agent.ask("POST", f"{home}/serviceaccounts/agent/token", {"spec": {}}).status == 403


def test_a_rule_may_be_for_some_names(agent: Account, home: str) -> None:
    agent.bind([rule("get list watch", "pods", resourceNames=["a"])])
    agent.allowed("GET", f"{home}/pods/a")
    assert agent.ask("GET", f"{home}/pods/b").status == 403
    assert agent.ask("GET", f"{home}/pods").status == 403
    assert agent.ask("GET", f"{home}/pods?fieldSelector=metadata.name%3Da").status == 200
    assert agent.ask("GET", f"{home}/pods?fieldSelector=metadata.name%3Db").status == 403


def test_a_lease_made_by_put_needs_the_right_to_create_that_name(agent: Account, namespace: str) -> None:
    """Unlike POST, whose path has no name: so a role can be for one Lease that is not there yet."""
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    agent.bind([
        rule("get create update", "leases", group="coordination.k8s.io", resourceNames=["a"]),
        rule("get update", "leases", group="coordination.k8s.io", resourceNames=["b"]),
    ])  # fmt: skip
    wait.until(lambda: agent.ask("GET", f"{leases}/a").status == 404)
    # Kubernetes makes it (`AllowCreateOnUpdate` of its leases); kubeapi makes nothing by PUT.
    makes = agent.cluster.ask("PUT", f"{leases}/c", {"metadata": {"name": "c"}, "spec": {}}).status == 201
    for name, answer in (("a", 201 if makes else 404), ("b", 403 if makes else 404), ("d", 403)):
        lease = {"metadata": {"name": name}, "spec": {"holderIdentity": "one"}}
        assert agent.ask("PUT", f"{leases}/{name}", lease).status == answer, name
    assert agent.ask("POST", leases, {"metadata": {"name": "a"}, "spec": {}}).status == 403


def test_a_cluster_role_is_for_all_namespaces(cluster: Cluster, agent: Account, unique: str) -> None:
    everything: Object = {"verbs": ["get", "list"], "apiGroups": ["*"], "resources": ["*"]}
    other = {"verbs": ["get"], "nonResourceURLs": ["/metrics*"]}
    role = {"metadata": {"name": unique}, "rules": [everything, other]}
    cluster.made(f"/apis/{RBAC}/v1/clusterroles", role)
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": unique}
    subject = {"apiGroup": RBAC, "kind": "Group", "name": f"system:serviceaccounts:{agent.namespace}"}
    binding = {"metadata": {"name": unique}, "roleRef": ref, "subjects": [subject]}
    cluster.made(f"/apis/{RBAC}/v1/clusterrolebindings", binding)
    agent.allowed("GET", "/api/v1/pods")
    assert agent.ask("GET", "/apis/coordination.k8s.io/v1/leases").status == 200
    assert agent.ask("GET", "/metrics").status != 403
    assert agent.ask("DELETE", "/api/v1/namespaces/default/pods").status == 403
    cluster.ask("DELETE", f"/apis/{RBAC}/v1/clusterrolebindings/{unique}")
    wait.until(lambda: agent.ask("GET", "/api/v1/pods").status == 403)


def test_a_cluster_role_may_be_bound_in_one_namespace(
    cluster: Cluster, agent: Account, unique: str, home: str
) -> None:
    role = {"metadata": {"name": unique}, "rules": [rule("list", "pods")]}
    cluster.made(f"/apis/{RBAC}/v1/clusterroles", role)
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": unique}
    subject = {"kind": "ServiceAccount", "name": "agent", "namespace": agent.namespace}
    binding = {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}
    cluster.made(f"/apis/{RBAC}/v1/namespaces/{agent.namespace}/rolebindings", binding)
    agent.allowed("GET", f"{home}/pods")
    assert agent.ask("GET", "/api/v1/pods").status == 403


def test_a_binding_to_another_is_nothing(agent: Account, home: str) -> None:
    agent.bind(
        [rule("list", "pods")], {"kind": "ServiceAccount", "name": "other", "namespace": agent.namespace}
    )
    asked = {"verb": "list", "resource": "pods", "namespace": agent.namespace}
    other = f"system:serviceaccount:{agent.namespace}:other"
    wait.until(lambda: reviewed(agent.cluster, other, asked)["allowed"])
    assert not reviewed(agent.cluster, agent.user, asked)["allowed"]
    assert agent.ask("GET", f"{home}/pods").status == 403


def test_reviews_of_access(agent: Account, home: str) -> None:
    agent.bind([rule("patch", "pods/status", resourceNames=["a"])])
    asked = {"verb": "patch", "resource": "pods", "subresource": "status", "namespace": agent.namespace}
    wait.until(lambda: reviewed(agent.cluster, agent.user, asked | {"name": "a"})["allowed"])
    assert not reviewed(agent.cluster, agent.user, asked | {"name": "b"})["allowed"]
    body = {"spec": {"resourceAttributes": asked | {"name": "a"}}}
    own = agent.ask("POST", f"{REVIEWS}/selfsubjectaccessreviews", body)
    assert (own.status, own.body["status"]["allowed"]) == (201, True)
    assert agent.ask("POST", f"{REVIEWS}/subjectaccessreviews", body).status == 403
    nothing = agent.cluster.ask("POST", f"{REVIEWS}/subjectaccessreviews", {"spec": {"user": agent.user}})
    assert nothing.status in (400, 422)


def reviewed(cluster: Cluster, user: str, asked: Object) -> Object:
    spec = {"user": user, "resourceAttributes": asked}
    status: Object = cluster.made(f"{REVIEWS}/subjectaccessreviews", {"spec": spec})["status"]
    return status
