"""A condition of ours in the status of an object that others write to as well."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from agent.kube import conditions
from agent.kube.client import path_of
from agent.kube.conditions import Condition
from agent.kube.errors import ApiError
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster

OURS = "warren.dev/Accepted"


SAID = Condition(OURS, "Invalid", "spec: no", 3)


@pytest.fixture
def pod(cluster: Cluster) -> Iterator["Pod"]:
    cluster.pod("a", "n1", "default")
    yield Pod(cluster)


class Pod:
    """An object with a status."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._steps = "api", "v1", "namespaces", cluster.namespace, "pods", "a"
        self.path = path_of(*self._steps)
        self.client = cluster.client

    def read(self) -> Any:
        return self._cluster.get(*self._steps)

    def conditions(self) -> Any:
        return self.read()["status"].get("conditions", [])

    def others_write(self, *conditions: Any) -> None:
        self._cluster.patch({"status": {"conditions": list(conditions)}}, *self._steps, "status")


READY = {"type": "Ready", "status": "True", "lastTransitionTime": None, "lastProbeTime": None}


def test_it_stands_beside_those_of_others(pod: Pod) -> None:
    pod.others_write(READY)
    conditions.put(pod.client, pod.path, SAID)
    ready, ours = pod.conditions()
    assert ready["type"] == "Ready"
    assert ours["lastTransitionTime"]
    told = {"type": OURS, "status": "False", "reason": "Invalid", "message": "spec: no"}
    assert told.items() <= ours.items()
    conditions.remove(pod.client, pod.path, OURS)
    [ready] = pod.conditions()
    assert ready["type"] == "Ready"


def test_nothing_is_written_where_nothing_changes(fake: Fake) -> None:
    cluster = Cluster(fake.kubeconfig)
    cluster.pod("a", "n1", "default")
    pod, verbs = Pod(cluster), []
    fake.faults.refuse = lambda verb, _: verbs.append(verb)
    conditions.remove(pod.client, pod.path, OURS)
    assert verbs == ["get"]
    conditions.put(pod.client, pod.path, SAID)
    conditions.put(pod.client, pod.path, SAID)
    assert verbs == ["get", "get", "patch", "get"]
    cluster.close()


def test_a_new_reason_is_no_transition(pod: Pod) -> None:
    pod.others_write({"type": OURS, "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    conditions.put(pod.client, pod.path, SAID)
    [ours] = pod.conditions()
    assert (ours["message"], ours["lastTransitionTime"]) == ("spec: no", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(("conflicts", "written"), [(2, True), (9, False)])
def test_others_that_are_faster(fake: Fake, conflicts: int, written: bool) -> None:
    cluster = Cluster(fake.kubeconfig)
    cluster.pod("a", "n1", "default")
    pod = Pod(cluster)
    left = iter(range(conflicts))
    fake.faults.refuse = lambda verb, _: 409 if verb == "patch" and next(left, None) is not None else None
    with nullcontext() if written else pytest.raises(ApiError, match="409"):
        conditions.put(pod.client, pod.path, SAID)
    fake.faults.refuse = lambda verb, _: None
    assert bool(pod.conditions()) is written
    cluster.close()
