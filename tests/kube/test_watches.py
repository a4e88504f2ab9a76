"""Watches: where they begin, what they tell in which order, and how they end."""

import pytest

from tests.kube.cluster import MERGE, Cluster, pod

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@pytest.fixture
def pods(cluster: Cluster, home: str) -> str:
    """The path of pods, of which there are `a` and `b`."""
    for name in "ab":
        cluster.made(f"{home}/pods", pod(name, app=name))
    return f"{home}/pods"


def test_all_changes_since_a_version(cluster: Cluster, pods: str) -> None:
    version = cluster.version(pods)
    cluster.made(pods, pod("c"))
    cluster.ask("PATCH", f"{pods}/a", {"metadata": {"labels": {"x": "y"}}}, media_type=MERGE)
    with cluster.watch(pods, resourceVersion=version) as events:
        assert events.names(2) == [("ADDED", "c"), ("MODIFIED", "a")]
        cluster.ask("DELETE", f"{pods}/b")  # shown as marked first, though it goes at once
        assert events.names(2) == [("MODIFIED", "b"), ("DELETED", "b")]
        cluster.made(pods, pod("b"))
        assert events.names(1) == [("ADDED", "b")]


def test_an_event_holds_the_object_as_it_was_then(cluster: Cluster, home: str) -> None:
    path = f"{home}/configmaps"
    version = cluster.version(path)
    first = cluster.made(path, {"metadata": {"name": "a"}, "data": {"n": "1"}})
    second = cluster.ask("PATCH", f"{path}/a", {"data": {"n": "2"}}, media_type=MERGE).body
    cluster.ask("DELETE", f"{path}/a")
    with cluster.watch(path, resourceVersion=version) as events:
        assert events.next() == ("ADDED", first)
        assert events.next() == ("MODIFIED", second)
        kind, last = events.next()
    assert (kind, last["data"]) == ("DELETED", {"n": "2"})
    assert int(last["metadata"]["resourceVersion"]) > int(second["metadata"]["resourceVersion"])


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
def test_without_a_version_what_there_is_comes_first(
    cluster: Cluster, pods: str, query: dict[str, str]
) -> None:
    with cluster.watch(pods, **query) as events:
        assert sorted(events.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        cluster.made(pods, pod("c"))
        assert events.names(1) == [("ADDED", "c")]


def test_a_watch_from_a_version_that_is_to_come_tells_nothing(cluster: Cluster, pods: str) -> None:
    ahead = int(cluster.version(pods)) + 100_000  # as after etcd was restored from a backup
    with cluster.watch(pods, resourceVersion=ahead, allowWatchBookmarks="1", timeoutSeconds=1) as events:
        assert events.status == 200
        cluster.made(pods, pod("c"))
        assert events.rest() == []


def test_a_watch_ends_when_its_time_is_over(cluster: Cluster, pods: str) -> None:
    version = cluster.version(pods)
    with cluster.watch(pods, resourceVersion=version, timeoutSeconds=1) as events:
        assert events.status == 200
        assert events.rest() == []


def test_a_version_that_is_to_come_is_waited_for(cluster: Cluster, pods: str) -> None:
    with cluster.watch(pods, resourceVersion=10**12, timeoutSeconds=1) as events:
        cluster.made(pods, pod("c"))
        assert events.rest() == []


def test_selectors_make_events_of_what_comes_and_goes(cluster: Cluster, pods: str) -> None:
    version = cluster.version(pods)
    with cluster.watch(pods, resourceVersion=version, fieldSelector="spec.nodeName=one") as events:
        cluster.made(pods, pod("c", "two"))
        cluster.made(pods, pod("d", "one"))
        for node in ("one", "two"):
            cluster.ask("PATCH", f"{pods}/c", {"spec": {"nodeName": node}}, media_type=MERGE)
        assert events.names(2) == [("ADDED", "d"), ("ADDED", "c")]
        kind, obj = events.next()
    assert (kind, obj["metadata"]["name"], obj["spec"]["nodeName"]) == ("DELETED", "c", "one")
    assert (
        obj["metadata"]["resourceVersion"]
        == cluster.ask("GET", f"{pods}/c").body["metadata"]["resourceVersion"]
    )
    with cluster.watch(pods, resourceVersion=version, labelSelector="app=b") as events:
        cluster.ask("PATCH", f"{pods}/b", {"metadata": {"labels": {"app": "x"}}}, media_type=MERGE)
        assert events.names(1) == [("DELETED", "b")]
    with cluster.watch(pods, fieldSelector="metadata.name=a") as events:
        assert events.names(1) == [("ADDED", "a")]


def test_a_watch_of_all_namespaces_sees_this_one(cluster: Cluster, pods: str, namespace: str) -> None:
    version = cluster.version(pods)
    cluster.made(pods, pod("c"))
    selector = f"metadata.namespace={namespace}"
    with cluster.watch("/api/v1/pods", resourceVersion=version, fieldSelector=selector) as events:
        assert events.names(1) == [("ADDED", "c")]


def test_the_old_path_of_watches(cluster: Cluster, pods: str) -> None:
    path = pods.replace("/api/v1/", "/api/v1/watch/")
    with cluster.watch(path) as events:
        assert sorted(events.names(2)) == [("ADDED", "a"), ("ADDED", "b")]


def test_initial_events_end_with_a_marked_bookmark(cluster: Cluster, pods: str) -> None:
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    with cluster.watch(pods, allowWatchBookmarks="true", **query) as events:
        assert sorted(events.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        kind, bookmark = events.next()
        cluster.made(pods, pod("c"))
        assert events.names(1) == [("ADDED", "c")]
    assert (kind, bookmark["kind"], bookmark["apiVersion"]) == ("BOOKMARK", "Pod", "v1")
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    version = bookmark["metadata"]["resourceVersion"]
    with cluster.watch(pods, resourceVersion=version) as events:
        assert events.names(1) == [("ADDED", "c")]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"resourceVersion": "x"}, 500),
        ({"resourceVersionMatch": "NotOlderThan"}, 422),
        ({"sendInitialEvents": "true"}, 422),
        ({"fieldSelector": "spec.nope=1"}, 400),
        ({"labelSelector": "a b c"}, 400),
    ],
)
def test_what_cannot_be_watched(cluster: Cluster, pods: str, query: dict[str, str], status: int) -> None:
    with cluster.watch(pods, **query) as events:
        assert events.status == status
        assert events.body()["code"] == status


def test_metadata_alone(cluster: Cluster, pods: str) -> None:
    with cluster.watch(pods, accept=METADATA, fieldSelector="metadata.name=a") as events:
        kind, obj = events.next()
    assert (kind, set(obj)) == ("ADDED", {"kind", "apiVersion", "metadata"})
    assert (obj["kind"], obj["metadata"]["name"]) == ("PartialObjectMetadata", "a")


def test_history_that_is_compacted_ends_a_watch_with_an_error(cluster: Cluster, home: str) -> None:
    path = f"{home}/events"  # the real server keeps no history of its own for these
    version = cluster.version(path)
    cluster.made(path, {"metadata": {"name": "a"}, "involvedObject": {}})
    if cluster.ask("POST", "/debug/compact").status != 200:
        pytest.skip("this server does not compact on demand")
    with cluster.watch(path, resourceVersion=version) as events:
        assert events.status == 200
        kind, status = events.next()
        assert events.rest() == []
    assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
