"""What is not in force is said in the object's status or as an Event, and no more than once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest

from agent.kube.client import Client
from agent.kube.listwatch import Name
from agent.model.mesh import Mesh
from agent.model.schema.objects import Key
from agent.reporting import _follow
from agent.sources.address_writer import AddressWriter
from agent.sources.gateway_writer import GatewayWriter
from agent.sources.kind_cache import CONDITION
from agent.sources.reporter import Reporter
from tests.support.apiserver import Fake
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.custom import DEFINITIONS, definition, entry, install, post
from tests.support.eventually import eventually
from tests.support.wait import PATIENCE

_TIME = PATIENCE
NOTHING: Mapping[Key, str] = MappingProxyType({})


@pytest.fixture
async def cluster(fake: Fake) -> AsyncIterator[Cluster]:
    it = Cluster(fake.kubeconfig)
    install(fake.kubeconfig)
    for plural in ("envoyfilters", "proxyconfigs", "wasmplugins"):
        it.post(definition(plural), *DEFINITIONS)
    yield it
    it.close()


@asynccontextmanager
async def reporting(cluster: Cluster, problems: Mapping[Key, str] = NOTHING) -> AsyncIterator[Reporter]:
    """A reporter, which is told of `problems`."""
    reporter = Reporter(Client.load(cluster.kubeconfig))
    there: set[Key] = set()

    async def follow() -> None:
        async for batch in reporter.kube.changes():
            there.update(key for key, _ in batch)
            reporter.tell({key: text for key, text in problems.items() if key in there})

    tasks = [asyncio.create_task(follow()), asyncio.create_task(reporter.run())]
    yield reporter
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    reporter.kube.close()


@asynccontextmanager
async def following_model(cluster: Cluster) -> AsyncIterator[None]:
    """A reporter that is told of all that becomes of the objects."""
    client, mesh = Client.load(cluster.kubeconfig), Mesh()
    reporter = Reporter(client)
    addresses, gateways = AddressWriter(client, reporter.kube), GatewayWriter(client, reporter.kube)
    follow = _follow(reporter, mesh, addresses, gateways)
    work = (follow, reporter.run(), addresses.run(), gateways.run())
    tasks = [asyncio.create_task(one) for one in work]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    reporter.kube.close()


def ours(cluster: Cluster, item: Any) -> Any:
    """Our condition of an object, or None."""
    status = cluster.get(*collection(item), item["metadata"]["name"]).get("status", {})
    return next((one for one in status.get("conditions", []) if one["type"] == CONDITION), None)


async def test_a_condition_that_stands_until_the_object_is_mended(cluster: Cluster) -> None:
    bad = entry("bad", "*.example")
    post(cluster, bad)
    async with reporting(cluster):
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


def envoy_filter() -> Any:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "lua", "namespace": "default"},
        "spec": {"configPatches": []},
    }


async def test_what_is_not_enforced(cluster: Cluster) -> None:
    item = envoy_filter()
    post(cluster, item)
    async with reporting(cluster):
        await eventually(lambda: ours(cluster, item), _TIME)
        assert ours(cluster, item)["reason"] == "NotEnforced"
        said = "not enforced by this version of Warren: the object has no effect: spec.configPatches"
        assert ours(cluster, item)["message"] == said


OTHERS = {
    "parentRef": {"name": "gateway"},
    "controllerName": "example.com/c",
    "conditions": [
        {
            **{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "yes"},
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


def route(backend: str) -> Any:
    """One for a Service and for somebody's gateway."""
    parents = [{"name": "gateway"}, {"group": "", "kind": "Service", "name": "web"}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"parentRefs": parents, "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]},
    }


def of_parents(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Our conditions of the route: status and reason."""
    found = cluster.get(*collection(route("")), "web")
    others, *ours = found["status"]["parents"]
    assert others["controllerName"] == "example.com/c"
    conditions = [one for entry in ours for one in entry["conditions"]]
    assert all(one["observedGeneration"] == found["metadata"]["generation"] for one in conditions)
    return {one["type"]: (one["status"], one["reason"]) for one in conditions}


async def test_what_a_route_is_for_its_parents(cluster: Cluster) -> None:
    item = route("gone")
    post(cluster, item)
    cluster.patch({"status": {"parents": [OTHERS]}}, *collection(item), "web", "status")
    async with following_model(cluster):
        lost = {"Accepted": ("False", "NoMatchingParent"), "ResolvedRefs": ("False", "BackendNotFound")}
        await eventually(lambda: of_parents(cluster) == lost, _TIME)
        web = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
        post(cluster, web | {"spec": {"ports": [{"port": 80, "name": "http"}]}})
        found = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("False", "BackendNotFound")}
        await eventually(lambda: of_parents(cluster) == found, _TIME)


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


async def test_the_status_says_of_which_generation_it_is(cluster: Cluster) -> None:
    """Also where the object is another one, and what is to be said of it is not."""
    bad, part = entry("bad", "*.example"), entry("part", "a.example")
    problems = {Key("ServiceEntry", "default", "part"): "hosts[1] is another's"}
    async with reporting(cluster, problems):
        for item in (bad, part):
            post(cluster, item)
            await eventually(partial(ours, cluster, item), _TIME)
            change = {"spec": {"ports": [{"number": 81, "name": "http"}]}}
            cluster.patch(change, *collection(item), item["metadata"]["name"])
            await eventually(partial(of_second, cluster, item), _TIME)


def of_second(cluster: Cluster, item: Any) -> bool:
    return bool(ours(cluster, item)["observedGeneration"] == 2)


async def test_a_status_that_is_wiped_is_written_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.reporter._AGAIN", 0.2)
    bad = entry("bad", "*.example")
    post(cluster, bad)
    async with reporting(cluster) as reporter:
        for _ in range(2):
            await eventually(lambda: ours(cluster, bad), _TIME)
            await eventually(lambda: heard(reporter, bad) and not reporter._later, _TIME)
            cluster.patch({"status": None}, *collection(bad), "bad", "status")
        await eventually(lambda: ours(cluster, bad), _TIME)


def heard(reporter: Reporter, item: Any) -> bool:
    """Whether it has seen that its condition stands, and has nothing to do."""
    return bool(told(reporter, item)) and not reporter._queue and not reporter._noticed


def told(reporter: Reporter, item: Any) -> Any:
    name = Name("default", item["metadata"]["name"])
    kinds = [one.cache for one in reporter.kube.following if one.cache.kind.name == item["kind"]]
    return kinds[0].told.get(name) if kinds else None


async def written_after(cluster: Cluster, name: str) -> None:
    """Until there was time to write all that there was to write before."""
    item = entry(name, "*.example")
    post(cluster, item)
    await eventually(lambda: ours(cluster, item), _TIME)


async def test_what_somebody_wipes_always_is_written_seldom(cluster: Cluster, fake: Fake) -> None:
    writes = counted(fake)
    bad = entry("bad", "*.example")
    post(cluster, bad)
    async with reporting(cluster) as reporter:
        await eventually(lambda: heard(reporter, bad), _TIME)
        cluster.patch({"status": None}, *collection(bad), "bad", "status")
        await eventually(lambda: not told(reporter, bad) and not reporter._queue, _TIME)
        await written_after(cluster, "later")
        await eventually(lambda: heard(reporter, entry("later", "*.example")), _TIME)
        assert ours(cluster, bad) is None
    assert len(writes) == 3, "two of ours, and the one that wipes"


async def test_the_newest_is_said_first_and_what_is_gone_not_at_all(cluster: Cluster, fake: Fake) -> None:
    """Hundreds of objects are waiting to be written about, at a rate that a server bears."""
    writes, many = counted(fake), [entry(f"old-{number}", "*.example") for number in range(200)]
    for item in many:
        post(cluster, item)
    async with reporting(cluster):
        await eventually(lambda: len(writes) > 5, _TIME)
        await written_after(cluster, "new")
        assert len(writes) < len(many) // 2, "it does not wait for the old ones"
        for item in many:
            cluster.delete(*collection(item), item["metadata"]["name"])
        await written_after(cluster, "alone")
        at = len(writes)
        await written_after(cluster, "last")
        assert len(writes) == at + 1, "nothing is left of those that are gone"


async def test_an_event_is_told_again_when_it_would_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.reporter._EVENTS_LAST", 0.5)
    container = {"name": "app", "image": "none", "ports": [{"containerPort": 70000}]}
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [container]}}
    cluster.post(pod, "api", "v1", "namespaces", cluster.namespace, "pods")
    async with reporting(cluster):
        await eventually(lambda: any(event["count"] > 1 for event in said(cluster, cluster.namespace)), _TIME)


def counted(fake: Fake) -> list[str]:
    """The resources of all patches from now on."""
    writes: list[str] = []
    fake.faults.refuse = lambda verb, resource: writes.append(resource) if verb == "patch" else None
    return writes


async def test_a_namespace_that_cannot_be_written_to_silences_no_other(
    cluster: Cluster, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that is being deleted: nothing can be made in it."""
    container = {"name": "app", "image": "none", "ports": [{"containerPort": 70000}]}
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [container]}}
    ending, other = "wt-ending", cluster.new_namespace("other")
    cluster.post({"metadata": {"name": ending}}, "api", "v1", "namespaces")
    held = {**pod, "metadata": {"name": "a", "finalizers": ["example.com/held"]}}
    cluster.post(held, "api", "v1", "namespaces", ending, "pods")
    cluster.delete("api", "v1", "namespaces", ending)
    async with reporting(cluster):
        await eventually(lambda: "because it is being terminated" in caplog.text, _TIME)
        cluster.post(pod, "api", "v1", "namespaces", other, "pods")
        await eventually(lambda: said(cluster, other), _TIME)
    cluster.patch({"metadata": {"finalizers": None}}, "api", "v1", "namespaces", ending, "pods", "a")


async def test_a_missing_permission_is_named_once(
    cluster: Cluster, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.faults.refuse = lambda verb, resource: 403 if verb == "patch" else None
    for name in ("one", "two"):
        post(cluster, entry(name, "*.example"))
    post(cluster, envoy_filter())
    async with reporting(cluster):
        await eventually(lambda: "status of kind EnvoyFilter cannot be written" in caplog.text, _TIME)
        await eventually(lambda: "status of kind ServiceEntry cannot be written" in caplog.text, _TIME)
    assert caplog.text.count("cannot be written") == 2
