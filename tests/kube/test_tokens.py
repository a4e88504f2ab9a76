"""Bearer tokens: what a service account gets, what a TokenReview says of it, and when it is over."""

import base64
import json
import time

import pytest

from tests.kube.cluster import Cluster, Object, pod
from tests.support import wait

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


@pytest.fixture
def account(cluster: Cluster, home: str) -> str:
    """The path of a service account's tokens; there is a pod `a` that uses it, on a node that is none."""
    cluster.made(f"{home}/serviceaccounts", {"metadata": {"name": "agent"}})
    user = pod("a", "node")
    user["spec"]["serviceAccountName"] = "agent"
    cluster.made(f"{home}/pods", user)
    return f"{home}/serviceaccounts/agent/token"


def issued(cluster: Cluster, account: str, **spec: object) -> str:
    token: str = cluster.made(account, {"spec": spec})["status"]["token"]
    return token


def reviewed(cluster: Cluster, token: str, *audiences: str) -> Object:
    spec = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
    status: Object = cluster.made(REVIEWS, {"spec": spec})["status"]
    return status


def test_a_token_is_for_an_audience_and_a_time(cluster: Cluster, account: str, namespace: str) -> None:
    answer = cluster.made(account, {"spec": {"audiences": ["one", "two"], "expirationSeconds": 3600}})
    assert (answer["kind"], answer["spec"]["expirationSeconds"]) == ("TokenRequest", 3600)
    token = answer["status"]["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["one", "two"]
    assert claims["sub"] == f"system:serviceaccount:{namespace}:agent"
    assert 3590 < claims["exp"] - time.time() <= 3600
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(claims["exp"]))
    assert answer["status"]["expirationTimestamp"] == ends


def test_a_review_tells_who_bears_a_token(cluster: Cluster, account: str, namespace: str) -> None:
    status = reviewed(cluster, issued(cluster, account))
    assert status["authenticated"] is True
    user = status["user"]
    assert user["username"] == f"system:serviceaccount:{namespace}:agent"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    assert sorted(user["groups"]) == sorted(groups)
    found = cluster.ask("GET", account.removesuffix("/token")).body
    assert user["uid"] == found["metadata"]["uid"]


def test_a_review_asks_for_an_audience(cluster: Cluster, account: str) -> None:
    token = issued(cluster, account, audiences=["istio-ca", "more"])
    status = reviewed(cluster, token, "other", "istio-ca")
    assert (status["authenticated"], status["audiences"]) == (True, ["istio-ca"])
    for audiences in (["other"], []):
        status = reviewed(cluster, token, *audiences)
        assert not status.get("authenticated")
        assert "audience" in status["error"]
    assert cluster.ask("GET", "/api", token=token).status == 401


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "ä"])
def test_what_is_no_token(cluster: Cluster, token: str) -> None:
    status = reviewed(cluster, token)
    assert not status.get("authenticated")
    assert status["user"] == {}


def test_a_forged_token_is_none(cluster: Cluster, account: str) -> None:
    token = issued(cluster, account)
    forged = token[:-8] + ("AAAAAAAA" if not token.endswith("AAAAAAAA") else "BBBBBBBB")
    assert not reviewed(cluster, forged).get("authenticated")
    assert cluster.ask("GET", "/api", token=forged).status == 401


def test_a_review_needs_a_token(cluster: Cluster) -> None:
    assert cluster.ask("POST", REVIEWS, {"spec": {}}).status == 400
    assert cluster.ask("GET", REVIEWS).status == 405


def test_a_token_bound_to_a_pod_ends_with_it(cluster: Cluster, account: str, home: str) -> None:
    bound = cluster.ask("GET", f"{home}/pods/a").body["metadata"]
    ref = {"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": bound["uid"]}
    token = issued(cluster, account, boundObjectRef=ref)
    extra = reviewed(cluster, token)["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["a"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [bound["uid"]]
    assert extra["authentication.kubernetes.io/node-name"] == ["node"]
    cluster.ask("DELETE", f"{home}/pods/a?gracePeriodSeconds=0")
    wait.until(lambda: not reviewed(cluster, token).get("authenticated"))
    cluster.made(f"{home}/pods", pod("a"))
    assert not reviewed(cluster, token).get("authenticated")


def test_a_token_bound_to_a_pod_names_the_node_of_today(cluster: Cluster, account: str, home: str) -> None:
    metadata = {"generateName": "wt-node-"}
    node = cluster.made("/api/v1/nodes", {"metadata": metadata})["metadata"]
    body = pod("b", node["name"])
    body["spec"]["serviceAccountName"] = "agent"
    cluster.made(f"{home}/pods", body)
    token = issued(cluster, account, boundObjectRef={"kind": "Pod", "name": "b"})
    extra = reviewed(cluster, token)["user"]["extra"]
    assert extra["authentication.kubernetes.io/node-uid"] == [node["uid"]]
    cluster.ask("DELETE", f"/api/v1/nodes/{node['name']}")


def test_a_token_ends_with_its_account(cluster: Cluster, account: str) -> None:
    token = issued(cluster, account)
    cluster.ask("DELETE", account.removesuffix("/token"))
    wait.until(lambda: not reviewed(cluster, token).get("authenticated"))
    wait.until(lambda: cluster.ask("GET", "/api", token=token).status == 401)


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"expirationSeconds": 0}, 422),
        ({"boundObjectRef": {"kind": "Pod", "name": "none"}}, 404),
        ({"boundObjectRef": {"kind": "Secret", "name": "a"}}, 400),
        ({"boundObjectRef": {"kind": "Pod", "name": "a", "uid": "other"}}, 409),
    ],
)
def test_a_token_that_is_not_issued(cluster: Cluster, account: str, spec: Object, status: int) -> None:
    assert cluster.ask("POST", account, {"spec": spec}).status == status


def test_a_token_is_not_bound_to_the_pod_of_another(cluster: Cluster, account: str, home: str) -> None:
    cluster.made(f"{home}/pods", pod("b"))
    spec = {"boundObjectRef": {"kind": "Pod", "name": "b"}}
    assert cluster.ask("POST", account, {"spec": spec}).status == 400
    assert cluster.ask("POST", f"{home}/serviceaccounts/none/token", {"spec": {}}).status == 404


def test_a_token_expires(cluster: Cluster, account: str) -> None:
    answer = cluster.ask("POST", account, {"spec": {"expirationSeconds": 1}})
    if answer.status == 422:
        pytest.skip("this server does not issue tokens as short as that")
    token = answer.body["status"]["token"]
    wait.until(lambda: cluster.ask("GET", "/api", token=token).status == 401)
    status = reviewed(cluster, token)
    assert not status.get("authenticated")
    assert "expired" in status["error"]


def test_nobody_gets_nothing(cluster: Cluster) -> None:
    for token in ("", "garbage"):
        answer = cluster.ask("GET", "/api/v1/pods", token=token)
        assert (answer.status, answer.body["reason"], answer.body["code"]) == (401, "Unauthorized", 401)
