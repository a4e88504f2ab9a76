"""Lists: selectors, pages, versions, and what is refused."""

from urllib.parse import quote

import pytest

from tests.kube.cluster import Cluster, Object, names, pod
from tests.support import wait

METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
FUTURE = 10**12


@pytest.fixture
def pods(cluster: Cluster, home: str) -> str:
    """The path of pods a to f: on nodes 0 and 1 by turns, with apps 0, 1 and 2 by turns."""
    for at, name in enumerate("abcdef"):
        cluster.made(f"{home}/pods", pod(name, f"node-{at % 2}", app=f"app{at % 3}", number=str(at)))
    return f"{home}/pods"


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=app0", "ad"),
        ("app==app0,number!=0", "d"),
        ("app in (app0, app1)", "abde"),
        ("app notin (app0),number", "bcef"),
        ("!other", "abcdef"),
        ("other", ""),
        ("other!=x", "abcdef"),
        ("number>3", "ef"),
        ("number<1", "a"),
    ],
)
def test_label_selectors(cluster: Cluster, pods: str, selector: str, found: str) -> None:
    assert names(cluster.ask("GET", f"{pods}?labelSelector={quote(selector)}")) == list(found)


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("spec.nodeName=node-0", "ace"),
        ("spec.nodeName!=node-0", "bdf"),
        ("metadata.name=c", "c"),
        ("metadata.name=c,spec.nodeName=node-1", ""),
        ("status.phase=Pending,spec.hostNetwork=false", "abcdef"),
    ],
)
def test_field_selectors(cluster: Cluster, pods: str, selector: str, found: str) -> None:
    assert names(cluster.ask("GET", f"{pods}?fieldSelector={quote(selector)}")) == list(found)


def test_lists_of_all_namespaces(cluster: Cluster, pods: str, namespace: str) -> None:
    selector = quote(f"metadata.namespace={namespace},spec.nodeName=node-1")
    assert names(cluster.ask("GET", f"/api/v1/pods?fieldSelector={selector}")) == list("bdf")
    assert names(cluster.ask("GET", "/api/v1/namespaces/none-such/pods")) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("labelSelector=a%20b%20c", 400),
        ("fieldSelector=spec.nope%3D1", 400),
        ("fieldSelector=spec.nodeName", 400),
        ("limit=x", 400),
        ("continue=x", 400),
        ("resourceVersion=x", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Nope", 422),
        ("sendInitialEvents=true", 422),
        (f"resourceVersion={FUTURE}", 504),
        (f"resourceVersion={FUTURE}&resourceVersionMatch=NotOlderThan", 504),
        (f"resourceVersion={FUTURE}&resourceVersionMatch=Exact", 504),
    ],
)
def test_what_cannot_be_listed(cluster: Cluster, home: str, query: str, status: int) -> None:
    assert cluster.ask("GET", f"{home}/pods?{query}").status == status


def test_a_version_that_is_to_come_is_named(cluster: Cluster, pods: str) -> None:
    for path in (pods, f"{pods}/a"):
        answer = cluster.ask("GET", f"{path}?resourceVersion={FUTURE}")
        assert (answer.status, answer.body["reason"]) == (504, "Timeout")
        assert "Too large resource version" in answer.body["message"]
        assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_pages_show_one_point_in_time(cluster: Cluster, pods: str) -> None:
    first = cluster.ask("GET", f"{pods}?limit=2").body
    metadata = first["metadata"]
    assert metadata["remainingItemCount"] == 4
    cluster.made(pods, pod("late"))
    cluster.ask("DELETE", f"{pods}/f?gracePeriodSeconds=0")
    seen = [item["metadata"]["name"] for item in first["items"]]
    while metadata.get("continue"):
        page = cluster.ask("GET", f"{pods}?limit=3&continue={metadata['continue']}")
        seen += names(page)
        assert page.body["metadata"]["resourceVersion"] == metadata["resourceVersion"]
        metadata = page.body["metadata"]
    assert seen == list("abcdef")
    assert "remainingItemCount" not in metadata


def test_pages_of_a_selection_do_not_say_how_many_are_left(cluster: Cluster, pods: str) -> None:
    page = cluster.ask("GET", f"{pods}?limit=2&labelSelector=app")
    assert names(page) == ["a", "b"]
    assert "remainingItemCount" not in page.body["metadata"]
    rest = cluster.ask("GET", f"{pods}?labelSelector=app&continue={page.body['metadata']['continue']}")
    assert names(rest) == list("cdef")


def test_a_page_goes_on_at_its_own_version(cluster: Cluster, pods: str) -> None:
    metadata = cluster.ask("GET", f"{pods}?limit=2").body["metadata"]
    query = f"continue={metadata['continue']}&resourceVersion={metadata['resourceVersion']}"
    assert cluster.ask("GET", f"{pods}?{query}").status == 400


def test_versions_of_a_list(cluster: Cluster, pods: str) -> None:
    then = cluster.version(pods)
    cluster.made(pods, pod("late"))
    exact = cluster.ask("GET", f"{pods}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert (names(exact), exact.body["metadata"]["resourceVersion"]) == (list("abcdef"), then)
    newer = cluster.ask("GET", f"{pods}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")
    assert names(newer) == [*"abcdef", "late"]
    assert names(cluster.ask("GET", f"{pods}?resourceVersion={then}")) == [*"abcdef", "late"]
    # With a limit, and for reasons of history, a version is exact.
    assert names(cluster.ask("GET", f"{pods}?resourceVersion={then}&limit=10")) == list("abcdef")
    any_version = cluster.ask("GET", f"{pods}?resourceVersion=0&limit=2")
    assert len(any_version.body["items"]) >= 6


def test_items_say_what_they_are_where_clients_need_it(cluster: Cluster, pods: str) -> None:
    answer = cluster.ask("GET", pods).body
    assert (answer["kind"], answer["apiVersion"]) == ("PodList", "v1")
    assert "kind" not in answer["items"][0]


def test_metadata_alone(cluster: Cluster, pods: str) -> None:
    listed = cluster.ask("GET", f"{pods}?limit=1", accept=METADATA.format("List")).body
    assert (listed["kind"], listed["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert listed["metadata"]["continue"]
    one = cluster.ask("GET", f"{pods}/a", accept=METADATA.format("")).body
    assert listed["items"] == [one]
    assert set(one) == {"kind", "apiVersion", "metadata"}
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")


def test_what_is_accepted(cluster: Cluster, pods: str) -> None:
    assert cluster.ask("GET", pods, accept="*/*").status == 200
    first = cluster.ask("GET", f"{pods}/a", accept=f"{METADATA.format('')},application/json").body
    assert first["kind"] == "PartialObjectMetadata"
    for accept in ("text/html", METADATA.format("")):
        answer = cluster.ask("GET", pods, accept=accept)
        assert (answer.status, answer.body["reason"]) == (406, "NotAcceptable")


def test_history_that_is_compacted_is_gone(cluster: Cluster, pods: str) -> None:
    page = cluster.ask("GET", f"{pods}?limit=2").body["metadata"]
    cluster.made(pods, pod("late"))
    if cluster.ask("POST", "/debug/compact").status != 200:
        pytest.skip("this server does not compact on demand")
    # The real server may take as long as it looks for compactions: 15 seconds.
    gone = wait.until(lambda: _expired(cluster, f"{pods}?continue={page['continue']}"))
    rest = cluster.ask("GET", f"{pods}?continue={gone['metadata']['continue']}")
    assert names(rest) == [*"cdef", "late"]
    exact = f"{pods}?resourceVersion={page['resourceVersion']}&resourceVersionMatch=Exact"
    wait.until(lambda: _expired(cluster, exact))


def _expired(cluster: Cluster, path: str) -> Object:
    """The refusal of a list whose version is gone; empty when it is not."""
    answer = cluster.ask("GET", path)
    if answer.status != 410:
        return {}
    assert (answer.body["reason"], answer.body["code"]) == ("Expired", 410)
    body: Object = answer.body
    return body
