"""What is not in force is said in the object's status or as an Event, by one agent, and no more than once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest

from agent.kube.client import Client
from agent.model.objects import Key
from agent.sources.kept import CONDITION
from agent.sources.kube import Kube
from agent.sources.reporter import Reporter
from tests.support.apiserver import Fake
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.custom import DEFINITIONS, definition, entry, install, post
from tests.support.eventually import eventually

_TIME = 30.0  # seconds
NOTHING: Mapping[Key, str] = MappingProxyType({})


@pytest.fixture
async def cluster(fake: Fake) -> AsyncIterator[Cluster]:
    it = Cluster(fake.kubeconfig)
    install(fake.kubeconfig)
    for plural in ("virtualservices", "httproutes"):
        it.post(definition(plural), *DEFINITIONS)
    yield it
    it.close()


@asynccontextmanager
async def reporting(
    cluster: Cluster, node: str = "n1", problems: Mapping[Key, str] = NOTHING
) -> AsyncIterator[list[int]]:
    """A source with its reporter, which is told of `problems`; gives how many changes each batch had."""
    client = Client.load(cluster.kubeconfig)
    kube = Kube(client)
    reporter = Reporter(client, kube, cluster.namespace, node)
    reporter.tell(problems)
    batches: list[int] = []

    async def follow() -> None:
        async for batch in kube.changes():
            batches.append(len(batch))

    tasks = [asyncio.create_task(follow()), asyncio.create_task(reporter.run())]
    yield batches
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    kube.close()


def ours(cluster: Cluster, item: Any) -> Any:
    """Our condition of an object, or None."""
    status = cluster.get(*collection(item), item["metadata"]["name"]).get("status", {})
    return next((one for one in status.get("conditions", []) if one["type"] == CONDITION), None)


async def test_a_condition_that_stands_until_the_object_is_mended(cluster: Cluster) -> None:
    bad = entry("bad", "*.example")
    post(cluster, bad)
    async with reporting(cluster) as batches:
        await eventually(lambda: ours(cluster, bad), _TIME)
        condition = ours(cluster, bad)
        assert (condition["status"], condition["reason"], condition["observedGeneration"]) == (
            "False",
            "Invalid",
            1,
        )
        assert condition["message"].startswith("spec.hosts: *.example cannot be resolved")
        cluster.patch({"spec": {"hosts": ["a.example"]}}, *collection(bad), "bad")
        await eventually(lambda: ours(cluster, bad) is None, _TIME)
        changes = sum(batches)
        post(cluster, entry("next", "b.example"))
        await eventually(lambda: sum(batches) > changes, _TIME)
        assert sum(batches) == changes + 1, "what we wrote ourselves is no change"


async def test_what_is_in_force_only_in_part(cluster: Cluster) -> None:
    item = entry("part", "a.example")
    post(cluster, item)
    async with reporting(cluster, problems={Key("ServiceEntry", "default", "part"): "hosts[1] is another's"}):
        await eventually(lambda: ours(cluster, item), _TIME)
        condition = ours(cluster, item)
        assert (condition["reason"], condition["message"]) == ("PartlyInForce", "hosts[1] is another's")
        assert condition["observedGeneration"] == 1


async def test_a_condition_of_an_agent_before_us(cluster: Cluster) -> None:
    good = entry("good", "a.example")
    post(cluster, good)
    stale = {"type": CONDITION, "status": "False", "reason": "Invalid", "message": "was bad"}
    cluster.patch({"status": {"conditions": [stale]}}, *collection(good), "good", "status")
    async with reporting(cluster):
        await eventually(lambda: ours(cluster, good) is None, _TIME)


def virtual_service() -> Any:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "routes", "namespace": "default"},
        "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]},
    }


async def test_what_is_not_enforced(cluster: Cluster) -> None:
    item = virtual_service()
    post(cluster, item)
    async with reporting(cluster):
        await eventually(lambda: ours(cluster, item), _TIME)
        assert ours(cluster, item)["reason"] == "NotEnforced"
        assert "not enforced by this version" in ours(cluster, item)["message"]


def said(cluster: Cluster, namespace: str) -> list[Any]:
    found: list[Any] = cluster.get("api", "v1", "namespaces", namespace, "events")["items"]
    return found


async def test_an_event_for_kinds_without_conditions(cluster: Cluster) -> None:
    container = {"name": "app", "image": "none", "ports": [{"containerPort": 70000}]}
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [container]}}
    cluster.post(pod, "api", "v1", "namespaces", cluster.namespace, "pods")
    async with reporting(cluster):
        await eventually(lambda: said(cluster, cluster.namespace), _TIME)
        [event] = said(cluster, cluster.namespace)
        assert event["involvedObject"]["name"] == "a"
        assert event["message"].startswith("spec.containers[0].ports[0].containerPort: ")


async def test_one_of_two_agents_says_it(cluster: Cluster, fake: Fake) -> None:
    writes = []
    fake.faults.refuse = lambda verb, resource: writes.append(resource) if verb == "patch" else None
    bad, later = entry("bad", "*.example"), entry("later", "*.example")
    post(cluster, bad)
    async with reporting(cluster, "n1"), reporting(cluster, "n2"):
        await eventually(lambda: ours(cluster, bad), _TIME)
        post(cluster, later)
        await eventually(lambda: ours(cluster, later), _TIME)
    assert len(writes) == 2


async def test_a_missing_permission_is_named_once(
    cluster: Cluster, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.faults.refuse = lambda verb, resource: 403 if verb == "patch" else None
    for name in ("one", "two"):
        post(cluster, entry(name, "*.example"))
    post(cluster, virtual_service())
    async with reporting(cluster):
        await eventually(lambda: "status of kind VirtualService cannot be written" in caplog.text, _TIME)
        await eventually(lambda: "status of kind ServiceEntry cannot be written" in caplog.text, _TIME)
    assert caplog.text.count("cannot be written") == 2
