"""An API server as the source: what it tells, whatever happens to it, and that a folder tells the same."""

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.model.kinds import KINDS
from agent.model.model import Model, apply
from agent.model.schema.objects import Key, Object
from agent.sources.folder import Folder
from agent.sources.kube import Kube
from tests.support import bookinfo
from tests.support.apiserver import Fake
from tests.support.cluster import AMBIENT, Cluster
from tests.support.custom import DEFINITIONS, definition, entry, post
from tests.support.following import following, kube, until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a kind is absent is known soon."""
    monkeypatch.setattr("agent.sources.absence.APART", 0.1)


def resources(known: dict[Key, Object], namespace: str) -> dict[tuple[str, str], Any]:
    """What the tunnels would be told of a namespace, to the byte."""
    model, _ = apply(Model(), list(known.items()))
    found = {key: those for key, those in model.resources.items() if key.namespace == namespace}
    return {(one.type_url, one.name): one for those in found.values() for one in those}


async def test_bookinfo_is_the_same_from_a_folder(cluster: Cluster, tmp_path: Path) -> None:
    namespace = cluster.namespace
    items = bookinfo.objects(namespace)
    bookinfo.create(cluster, items)
    labelled = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": AMBIENT}}
    bookinfo.write(tmp_path, [labelled, *items])
    async with following(kube(cluster.kubeconfig)) as served, following(Folder(tmp_path)) as read:
        assert not served.source.rejected and not read.source.rejected
        told = resources(served.known, namespace)
        assert told == resources(read.known, namespace)
        assert len(told) == 4 + 6


async def test_first_everything_then_what_changes(cluster: Cluster) -> None:
    cluster.pod("a", "n1", "default")
    async with following(kube(cluster.kubeconfig)) as seen:
        [everything] = seen.batches
        assert Key("Namespace", "", cluster.namespace) in dict(everything)
        assert seen.names("Pod", cluster.namespace) == {"a"}
        cluster.pod("b", "n1", "default")
        await until(lambda: seen.names("Pod", cluster.namespace) == {"a", "b"})
        cluster.delete_pod("a")
        await until(lambda: seen.names("Pod", cluster.namespace) == {"b"})


async def test_what_we_do_not_read_changes_nothing(cluster: Cluster) -> None:
    cluster.pod("a", "n1", "default")
    path = "api", "v1", "namespaces", cluster.namespace, "pods"
    async with following(kube(cluster.kubeconfig)) as seen:
        cluster.patch({"status": {"message": "hm"}}, *path, "a", "status")
        cluster.pod("b", "n1", "default")
        await until(lambda: seen.names("Pod", cluster.namespace) == {"a", "b"})
        told = [key.name for batch in seen.batches for key, _ in batch if key.kind == "Pod"]
        assert told.count("a") == 1


async def test_a_kind_that_is_installed_later_and_taken_away(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cluster = Cluster(fake.kubeconfig)
    async with following(kube(fake.kubeconfig)) as seen:
        assert "kinds that the API server does not serve: ServiceEntry, WorkloadEntry" in caplog.text
        assert not seen.source.health.unsynced
        assert seen.source.health.kinds["ServiceEntry"] == "absent"
        crd = definition("serviceentries")
        cluster.post(crd, *DEFINITIONS)
        await asyncio.to_thread(post, cluster, entry("a", "a.example"))
        await until(lambda: seen.names("ServiceEntry", "default") == {"a"})
        await until(lambda: seen.source.health.kinds["ServiceEntry"] == "current")
        cluster.delete(*DEFINITIONS, crd["metadata"]["name"])
        await until(lambda: seen.names("ServiceEntry", "default") == set())
        await until(lambda: seen.source.health.kinds["ServiceEntry"] == "absent")
    cluster.close()


async def test_a_bad_object_is_refused_alone(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(fake.kubeconfig)
    cluster.post(definition("serviceentries"), *DEFINITIONS)
    good, bad = entry("good", "a.example"), entry("bad", "*.example")
    post(cluster, good)
    post(cluster, bad)
    where = (*bookinfo.collection(good),)
    async with following(kube(fake.kubeconfig)) as seen:
        assert seen.names("ServiceEntry", "default") == {"good", "bad"}
        reason = "spec.hosts: *.example cannot be resolved; give endpoints, or use DYNAMIC_DNS"
        left = "it is hidden, policies with targetRefs to it are in force"
        assert [str(one) for one in seen.source.rejected] == [f"ServiceEntry default/bad: {reason}; {left}"]

        cluster.patch({"spec": {"hosts": ["*.example"]}}, *where, "good")
        await until(lambda: len(seen.source.rejected) == 2)
        await until(
            lambda: "default/good: spec.hosts" in caplog.text and "a good version stays" in caplog.text
        )
        assert "hidden" not in str(seen.source.rejected[-1]), "its last good version stays in force"

        cluster.patch({"spec": {"hosts": ["b.example"]}}, *where, "bad")
        await until(lambda: len(seen.source.rejected) == 1)
        cluster.delete(*where, "good")
        await until(lambda: seen.names("ServiceEntry", "default") == {"bad"})
        assert not seen.source.rejected
        assert caplog.text.count("rejected ServiceEntry default/bad") == 1
    cluster.close()


async def test_a_forbidden_kind_that_is_not_critical(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake.faults.refuse = lambda verb, resource: 403 if resource == "nodes" else None
    async with following(kube(fake.kubeconfig)) as seen:
        [rejected] = seen.source.rejected
        assert str(rejected).startswith("Node: GET /api/v1/nodes: 403")
        assert not seen.source.health.unsynced
        fake.faults.refuse = lambda verb, resource: None
        await until(lambda: not seen.source.rejected)
        assert caplog.text.count("kind Node is forbidden") == 1


async def test_definitions_that_are_forbidden(fake: Fake) -> None:
    cluster = Cluster(fake.kubeconfig)
    cluster.post(definition("serviceentries"), *DEFINITIONS)
    post(cluster, entry("a", "a.example"))
    fake.faults.refuse = lambda verb, resource: 403 if resource == "customresourcedefinitions" else None
    source = kube(fake.kubeconfig)
    definitions = source._definitions
    async with following(source) as seen:
        assert seen.names("ServiceEntry", "default") == {"a"}, "each kind was tried"
        assert seen.source.health.kinds["WorkloadEntry"] == "absent"
        await asyncio.to_thread(fake.stop)
        await until(lambda: definitions.watcher.state == "away")
        assert seen.source.health.kinds["ServiceEntry"] != "absent"
        await asyncio.to_thread(fake.start)
        await until(lambda: seen.source.health.kinds["ServiceEntry"] == "current")
        assert seen.names("ServiceEntry", "default") == {"a"}
        assert len(seen.batches) == 1, "nothing was taken from force"
    cluster.close()


async def test_only_some_kinds(cluster: Cluster) -> None:
    cluster.pod("a", "n1", "default")
    some = Kube(Client.load(cluster.kubeconfig), [KINDS["Pod"]])
    async with following(some) as seen:
        assert {key.kind for key in seen.known} == {"Pod"}


async def test_away_and_back_in_the_middle_of_changes(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cluster = Cluster(fake.kubeconfig)
    for name in ("stays", "goes"):
        cluster.pod(name, "n1", "default")
    async with following(kube(fake.kubeconfig)) as seen:
        await asyncio.to_thread(fake.stop)
        await until(lambda: "source unreachable, the last good state stays in force" in caplog.text)
        assert seen.names("Pod", cluster.namespace) == {"stays", "goes"}
        assert seen.source.health.age > 0
        await asyncio.to_thread(fake.start)
        await asyncio.to_thread(cluster.delete_pod, "goes")
        await asyncio.to_thread(cluster.pod, "comes", "n1", "default")
        fake.compact()
        await until(lambda: seen.names("Pod", cluster.namespace) == {"stays", "comes"})
        await until(lambda: "source reachable again" in caplog.text)
        await until(lambda: seen.source.health.age == 0)  # a watch that was late may be away once more
        assert seen.source.health.restarts["Unreachable"]
        gone = {key.name for batch in seen.batches for key, item in batch if item is None}
        assert gone == {"goes"}, "what is there stays throughout"
    cluster.close()


async def test_cuts_repeats_and_another_order_across_kinds(fake: Fake) -> None:
    chance = random.Random(2)
    fake.faults.repeats = 2
    fake.faults.watch_bytes = lambda: chance.randrange(1, 4000)
    cluster = Cluster(fake.kubeconfig)
    items = bookinfo.objects(cluster.namespace)
    async with following(kube(fake.kubeconfig)) as seen:
        # Pods before the Services that select them, and before their node.
        await asyncio.to_thread(bookinfo.create, cluster, items[::-1])
        fake.faults.watch_bytes = lambda: None
        fake.faults.repeats = 1
        await until(lambda: len(resources(seen.known, cluster.namespace)) == 10)
        async with following(kube(fake.kubeconfig)) as anew:
            final = resources(anew.known, cluster.namespace)
            await until(lambda: resources(seen.known, cluster.namespace) == final)
    cluster.close()


async def test_an_object_of_a_megabyte_with_fields_that_nobody_knows(fake: Fake) -> None:
    cluster = Cluster(fake.kubeconfig)
    cluster.pod("a", "n1", "default")
    key = Key("Pod", cluster.namespace, "a")
    async with following(kube(fake.kubeconfig)) as seen:
        env = [{"name": "NOTE", "value": "\N{BEETLE}" * 250_000}]
        large = {"containers": [{"name": "app", "image": "none", "env": env}], "schedulerName": "none"}
        body = {"metadata": {"labels": {"app": "a"}}, "spec": large}
        await asyncio.to_thread(cluster.patch, body, "api", "v1", "namespaces", key.namespace, "pods", "a")
        await until(lambda: seen.known[key].metadata.labels == {"app": "a"})
    cluster.close()


async def test_services_that_select_nothing_or_share_an_address(cluster: Cluster, tmp_path: Path) -> None:
    def service(name: str, **spec: Any) -> Any:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": cluster.namespace},
            "spec": {"ports": [{"port": 80, "name": "http"}], **spec},
        }

    shared, own = ({"clusterIP": ip, "clusterIPs": [ip]} for ip in ("10.96.201.1", "10.96.201.2"))
    items = [
        service("alone", **own),
        *(service(name, selector={"app": name}, **shared) for name in ("a", "b")),
    ]
    accepted = [item for item in items if not refused(cluster, item)]
    assert len(accepted) >= 2, "a server may see to it that no two have one address"
    bookinfo.write(tmp_path, accepted)
    async with following(kube(cluster.kubeconfig)) as served, following(Folder(tmp_path)) as read:
        told = resources(served.known, cluster.namespace)
        assert told == resources(read.known, cluster.namespace)
        assert len(told) == len(accepted)


def refused(cluster: Cluster, item: Any) -> bool:
    try:
        cluster.post(item, *bookinfo.collection(item))
    except ApiError as error:
        assert error.status == 422
        return True
    return False
