"""Events about objects."""

from typing import Any

from agent.kube import events
from agent.kube.client import path_of
from tests.support.cluster import Cluster


def said(cluster: Cluster, namespace: str, about: str) -> list[Any]:
    """The events about an object."""
    found = cluster.get("api", "v1", "namespaces", namespace, "events")["items"]
    return [event for event in found if event["involvedObject"]["name"] == about]


def test_the_same_is_counted(cluster: Cluster) -> None:
    uid = cluster.pod("a", "n1", "default")
    path = path_of("api", "v1", "namespaces", cluster.namespace, "pods", "a")
    for message in ("one", "one", "two", "one"):
        events.warn(cluster.client, path, "Invalid", message)
    one, two = sorted(said(cluster, cluster.namespace, "a"), key=lambda event: event["message"])
    assert (one["count"], two["count"]) == (3, 1)
    assert (one["type"], one["reason"], one["source"]["component"]) == ("Warning", "Invalid", "warren")
    about = {"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": cluster.namespace, "uid": uid}
    assert one["involvedObject"] == about


def test_about_what_lies_in_no_namespace(cluster: Cluster) -> None:
    events.warn(cluster.client, path_of("api", "v1", "namespaces", cluster.namespace), "Invalid", "x" * 3000)
    [event] = said(cluster, "default", cluster.namespace)
    assert len(event["message"]) == 1024
