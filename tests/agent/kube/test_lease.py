"""One of several holds a lease."""

from pathlib import Path

import pytest

from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.lease import Lease
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster
from tests.support.kubernetes.users import API_AUDIENCE
from tests.support.wait import until


def lease(cluster: Cluster, holder: str, name: str = "x") -> Lease:
    return Lease(cluster.client, cluster.namespace, name, holder)


def path(cluster: Cluster) -> tuple[str, ...]:
    return "apis", "coordination.k8s.io", "v1", "namespaces", cluster.namespace, "leases", "x"


def test_one_holds_it(cluster: Cluster) -> None:
    a, b = lease(cluster, "a"), lease(cluster, "b")
    assert not a.held
    assert a.attempt() and a.held
    assert not b.attempt() and not b.held
    assert a.attempt(), "renewed"
    spec = cluster.get(*path(cluster))["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)


def test_it_is_released_at_once(cluster: Cluster) -> None:
    a, b = lease(cluster, "a"), lease(cluster, "b")
    b.release()
    a.attempt()
    a.release()
    assert not a.held
    assert b.attempt() and not a.attempt()
    a.release()
    assert cluster.get(*path(cluster))["spec"]["holderIdentity"] == "b"


def test_who_leaves_tries_again_and_says_who_has_to_wait(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(fake.kubeconfig)
    a, refusals = lease(cluster, "a"), [409]
    a.attempt()
    fake.faults.refuse = lambda verb, resource: refusals.pop() if verb == "update" and refusals else None
    a.leave()
    assert cluster.get(*path(cluster))["spec"]["holderIdentity"] == "" and not caplog.text
    a.attempt()
    refusals += [500, 500]
    a.leave()
    assert f"lease {cluster.namespace}/x is not released, and free in 15 s: PUT" in caplog.text
    assert not a.held
    cluster.close()


def test_it_runs_out_when_nobody_renews_it(cluster: Cluster) -> None:
    a, b = lease(cluster, "a"), lease(cluster, "b")
    a.attempt()
    old = {"leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z"}
    cluster.patch({"spec": old}, *path(cluster))
    assert not b.attempt(), "its clock may be wrong: it is ours that counts"
    until(b.attempt)
    assert cluster.get(*path(cluster))["spec"]["leaseTransitions"] == 1
    assert not a.attempt() and not a.held, "it knows that it was too late"


def test_who_cannot_renew_it_counts_on_it_no_more(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own clock, before another may take it."""
    monkeypatch.setattr("agent.kube.lease.DURATION", 1)
    a = lease(cluster, "a")
    assert a.attempt()
    until(lambda: not a.held)
    assert cluster.get(*path(cluster))["spec"]["holderIdentity"] == "a"


def test_another_was_faster(fake: Fake) -> None:
    cluster = Cluster(fake.kubeconfig)
    a = lease(cluster, "a")
    assert a.attempt()
    fake.faults.refuse = lambda verb, resource: 409 if verb == "update" else None
    assert not a.attempt() and not a.held
    cluster.close()


def test_who_may_make_one_by_name_makes_that_one(fake: Fake, tmp_path: Path) -> None:
    cluster = Cluster(fake.kubeconfig)
    rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["x"],
            "verbs": ["get", "create", "update"]}  # fmt: skip
    within = "apis", "rbac.authorization.k8s.io", "v1", "namespaces", cluster.namespace
    cluster.account("a")
    cluster.post({"metadata": {"name": "a"}, "rules": [rule]}, *within, "roles")
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}
    subject = {"kind": "ServiceAccount", "name": "a", "namespace": cluster.namespace}
    cluster.post({"metadata": {"name": "a"}, "roleRef": role, "subjects": [subject]}, *within, "rolebindings")
    token = cluster.token("a", None, API_AUDIENCE)
    client = Client.load(cluster.kubeconfig_for(token, tmp_path / "a"))
    assert Lease(client, cluster.namespace, "x", "a").attempt()
    with pytest.raises(ApiError, match="403"):
        Lease(client, cluster.namespace, "y", "a").attempt()
    cluster.close()


def test_a_namespace_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="404"):
        Lease(cluster.client, "none", "x", "a").attempt()
