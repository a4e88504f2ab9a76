"""Critical kinds that cannot be read: before they are nothing is told, and then nothing that opens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from agent.model.kinds import KINDS
from agent.sources.kube import Kube
from agent.sources.opening import open_source
from agent.sources.source import Changes
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster
from tests.support.custom import DEFINITIONS, definition, install, policy, post
from tests.support.eventually import eventually
from tests.support.following import Following, following, until

GROUP = "security.istio.io"
POLICIES = "apis", GROUP, "v1", "namespaces", "default", "authorizationpolicies"
_APART = 0.4


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a kind is absent is known soon, and what is forbidden is tried again soon."""
    monkeypatch.setattr("agent.sources.absence.APART", _APART)
    monkeypatch.setattr("agent.sources.absence._SELDOM", _APART)
    monkeypatch.setattr("agent.kube.watch._LONGEST", 0.5)


@pytest.fixture
def admin(fake: Fake) -> Iterator[Cluster]:
    """Of a cluster with Istio's kinds, and a policy of each that closes."""
    install(fake.kubeconfig)
    it = Cluster(fake.kubeconfig)
    post(it, policy("deny"))
    yield it
    it.close()


def kube(fake: Fake, node: str = "n1") -> Kube:
    source = open_source("kube", fake.kubeconfig, node).source
    assert isinstance(source, Kube)
    return source


def forbid(
    fake: Fake, *resources: str, verbs: tuple[str, ...] = ("list", "watch"), status: int = 403
) -> None:
    """From now on; watches that run are cut."""
    fake.faults.refuse = lambda verb, resource: status if verb in verbs and resource in resources else None
    fake.cut_watches()


def allow(fake: Fake) -> None:
    fake.faults.refuse = lambda verb, resource: None


@asynccontextmanager
async def waiting(source: Kube) -> AsyncIterator[Following]:
    """A source that is not expected to tell anything yet."""
    it = Following(source)
    task = asyncio.create_task(it.follow())
    yield it
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    source.close()


CRITICAL = sorted(name for name, kind in KINDS.items() if kind.critical)
OTHER = [(name, status) for name in ("AuthorizationPolicy", "Namespace") for status in (404, 500)]


@pytest.mark.parametrize(("name", "status"), [*((name, 403) for name in CRITICAL), *OTHER])
async def test_nothing_is_told_before_all_critical_kinds_are_listed(
    fake: Fake, admin: Cluster, name: str, status: int
) -> None:
    kind = KINDS[name]
    forbid(fake, kind.plural, status=status)
    async with waiting(kube(fake)) as seen:
        await until(lambda: list(seen.source.health.unsynced) == [name])
        await until(lambda: str(status) in seen.source.health.unsynced[name])
        assert seen.source.health.age > 0
        assert not seen.batches
        allow(fake)
        await until(lambda: bool(seen.batches))
        assert seen.names("AuthorizationPolicy", "default") == {"deny"}
        assert not seen.source.health.unsynced


async def test_what_is_listed_meanwhile_may_be_translated(fake: Fake, admin: Cluster) -> None:
    forbid(fake, "authorizationpolicies")
    listed: list[Changes] = []
    source = open_source("kube", fake.kubeconfig, "n1", listed=listed.append).source
    assert isinstance(source, Kube)
    async with waiting(source) as seen:
        await until(lambda: bool(listed))
        assert not seen.batches
        assert ("Namespace", "default") in {(key.kind, key.name) for key, _ in listed[0]}
        allow(fake)
        await until(lambda: bool(seen.batches))
        assert seen.names("AuthorizationPolicy", "default") == {"deny"}
        told = dict(seen.batches[0])
        assert all(told[key] is item for key, item in listed[0])
    assert len(listed) == 1


async def test_it_is_said_what_is_missing_and_what_to_do(
    fake: Fake, admin: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    forbid(fake, "peerauthentications")
    async with waiting(kube(fake)) as seen:
        await until(lambda: "forbidden" in seen.source.health.unsynced.get("PeerAuthentication", ""))
        said = seen.source.health.unsynced["PeerAuthentication"]
        assert said.startswith(f"list is forbidden: GET /apis/{GROUP}/v1/peerauthentications: 403")
        rule = f"{{apiGroups: ['{GROUP}'], resources: [peerauthentications], verbs: [list, watch]}}"
        assert said.endswith(f"add to the agent's ClusterRole {rule}")
        assert seen.source.health.kinds["PeerAuthentication"] == "forbidden"
        await until(lambda: seen.source.health.restarts.get("Forbidden", 0) >= 2)
        assert caplog.text.count("kind PeerAuthentication cannot be read, nothing new is let in until") == 1


async def test_a_server_that_has_just_started(fake: Fake, admin: Cluster) -> None:
    """It answers 404, and even its discovery lacks what it will serve in a moment."""
    source = kube(fake)
    with fake.hidden(GROUP, "networking.istio.io"):
        forbid(fake, "customresourcedefinitions")
        async with waiting(source) as seen:
            await until(lambda: source._absence._since.keys() >= {"AuthorizationPolicy"})
            assert not seen.batches
            fake._call(fake._server.api.kinds.hidden.clear)
            await until(lambda: bool(seen.batches))
            assert seen.names("AuthorizationPolicy", "default") == {"deny"}


async def test_what_discovery_lacks_twice_is_absent(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    began = monotonic()
    async with following(kube(fake)) as seen:
        assert monotonic() - began >= _APART
        assert "discovery lists no AuthorizationPolicy, DestinationRule, GRPCRoute, HTTPRoute" in caplog.text
        assert seen.source.health.kinds["AuthorizationPolicy"] == "absent"
        assert not seen.source.health.unsynced


@pytest.mark.parametrize("path", ["/apis", "/readyz"])
@pytest.mark.parametrize("status", [403, 503])
async def test_while_discovery_says_nothing_no_kind_is_absent(fake: Fake, path: str, status: int) -> None:
    asked: list[str] = []

    def refuse(verb: str, resource: str) -> int | None:
        asked.extend([resource] if resource == path else [])
        return status if resource == path else None

    fake.faults.refuse = refuse
    async with waiting(kube(fake)) as seen:
        await until(lambda: len(asked) >= 3)
        assert not seen.batches
        said = seen.source.health.unsynced["AuthorizationPolicy"]
        assert said.startswith("discovery does not tell whether the cluster has this kind: ")
        assert f"GET {path}: {status}" in said
        assert seen.source.health.kinds["AuthorizationPolicy"] == "unknown"
        allow(fake)
        await until(lambda: bool(seen.batches))


def pod(name: str, node: str = "n1", namespace: str = "default") -> Any:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [{"name": "a", "image": "none"}]},
    }


def put(admin: Cluster, item: Any) -> None:
    admin.post(item, "api", "v1", "namespaces", item["metadata"]["namespace"], "pods")


async def test_a_right_that_is_taken_away(
    fake: Fake, admin: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authentication: Any = policy("strict") | {
        "kind": "PeerAuthentication",
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    post(admin, authentication)
    put(admin, pod("goes"))
    async with following(kube(fake)) as seen:
        assert seen.names("PeerAuthentication", "default") == {"strict"}
        forbid(fake, "authorizationpolicies")
        await until(lambda: "403" in seen.source.health.unsynced.get("AuthorizationPolicy", ""))
        heard = seen.source.health.age
        # A policy in another one's place, and a workload that it is for.
        admin.patch({"spec": {"action": "ALLOW"}}, *POLICIES, "deny")
        post(admin, policy("instead"))
        admin.delete(*POLICIES[:-1], "peerauthentications", "strict")
        put(admin, pod("new"))
        admin.delete_pod("goes", "default")
        put(admin, pod("elsewhere", "n2"))
        put(admin, pod("never-in-the-mesh", namespace="kube-system"))
        await until(lambda: seen.names("Pod", "default") == {"elsewhere"})
        await until(lambda: seen.names("Pod", "kube-system") == {"never-in-the-mesh"})
        await until(lambda: seen.source.health.held == 2)
        assert seen.names("AuthorizationPolicy", "default") == {"deny"}
        assert seen.names("PeerAuthentication", "default") == {"strict"}
        assert seen.source.health.age > heard > 0

        allow(fake)
        await until(lambda: seen.names("AuthorizationPolicy", "default") == {"deny", "instead"})
        await until(lambda: seen.names("Pod", "default") == {"elsewhere", "new"})
        assert seen.names("PeerAuthentication", "default") == set()
        assert (seen.source.health.held, seen.source.health.age) == (0, 0.0)
        [last] = [batch for batch in seen.batches if any(key.name == "new" for key, _ in batch)]
        assert {key.name for key, _ in last} >= {"new", "instead", "strict"}, "all at once"
    assert caplog.text.count("kind AuthorizationPolicy cannot be read") == 1
    assert "kind AuthorizationPolicy is read again" in caplog.text


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_a_watch_that_cannot_go_on(fake: Fake, admin: Cluster, status: int) -> None:
    async with following(kube(fake)) as seen:
        forbid(fake, "authorizationpolicies", verbs=("watch",), status=status)
        await until(lambda: f": {status}" in seen.source.health.unsynced.get("AuthorizationPolicy", ""))
        put(admin, pod("new"))
        await until(lambda: seen.source.health.held > 0)
        assert not seen.names("Pod", "default")
        allow(fake)
        await until(lambda: seen.names("Pod", "default") == {"new"})
        assert seen.names("AuthorizationPolicy", "default") == {"deny"}


async def test_a_kind_is_gone_when_discovery_has_said_so_twice(
    fake: Fake, admin: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(kube(fake)) as seen:
        with fake.hidden(GROUP):
            fake.cut_watches()
            await until(lambda: "404" in seen.source.health.unsynced.get("AuthorizationPolicy", ""))
        put(admin, pod("a"))
        await until(lambda: seen.names("Pod", "default") == {"a"})
        assert seen.names("AuthorizationPolicy", "default") == {"deny"}, "it was not there for a moment"

        began = monotonic()
        with fake.hidden(GROUP):
            fake.cut_watches()
            put(admin, pod("b"))
            await until(lambda: not seen.names("AuthorizationPolicy", "default"))
            assert monotonic() - began >= _APART
            assert "no longer serves kind AuthorizationPolicy; 1 objects are no longer in" in caplog.text
            await until(lambda: seen.names("Pod", "default") == {"a", "b"})
            assert seen.source.health.kinds["AuthorizationPolicy"] == "absent"


async def test_a_definition_that_is_deleted_and_made_again(fake: Fake, admin: Cluster) -> None:
    crd = definition("authorizationpolicies")
    async with following(kube(fake)) as seen:
        admin.delete(*DEFINITIONS, crd["metadata"]["name"])
        await until(lambda: not seen.names("AuthorizationPolicy", "default"))  # each was deleted
        await until(lambda: seen.source.health.kinds["AuthorizationPolicy"] == "absent")
        admin.post(crd, *DEFINITIONS)
        await asyncio.to_thread(post, admin, policy("again"))
        await until(lambda: seen.names("AuthorizationPolicy", "default") == {"again"})
        assert not seen.source.health.unsynced


async def test_what_is_installed_later_is_read_before_anything_else_is_told(fake: Fake) -> None:
    admin = Cluster(fake.kubeconfig)
    async with following(kube(fake)) as seen:
        forbid(fake, "authorizationpolicies")
        admin.post(definition("authorizationpolicies"), *DEFINITIONS)
        await until(lambda: "403" in seen.source.health.unsynced.get("AuthorizationPolicy", ""))
        await asyncio.to_thread(post, admin, policy("deny"))
        put(admin, pod("a"))
        await until(lambda: seen.source.health.held > 0)
        allow(fake)
        await until(lambda: seen.names("Pod", "default") == {"a"})
        assert seen.names("AuthorizationPolicy", "default") == {"deny"}
    admin.close()


async def test_kinds_that_are_absent_while_definitions_are_hidden(fake: Fake) -> None:
    admin = Cluster(fake.kubeconfig)
    forbid(fake, "customresourcedefinitions", "authorizationpolicies")
    async with following(kube(fake)) as seen:
        assert seen.source.health.kinds["AuthorizationPolicy"] == "absent", (
            "discovery says so, if not the list"
        )
        allow(fake)
        fake.faults.refuse = lambda verb, resource: (
            403 if resource == "customresourcedefinitions" and verb in ("list", "watch") else None
        )
        admin.post(definition("authorizationpolicies"), *DEFINITIONS)
        await asyncio.to_thread(post, admin, policy("deny"))
        await until(lambda: seen.names("AuthorizationPolicy", "default") == {"deny"})
    admin.close()


async def test_a_restored_server_is_read_again_by_all_watches(
    fake: Fake, admin: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by those whose own version the server has passed again: they cannot see it."""
    monkeypatch.setattr("agent.kube.watch._FEW", -1)  # as with many objects: who was away goes on by a watch
    put(admin, pod("stays"))
    fake.save(tmp_path / "backup")
    post(admin, policy("lost"))
    async with following(kube(fake)) as seen:
        assert seen.names("AuthorizationPolicy", "default") == {"deny", "lost"}
        for number in range(50):
            put(admin, pod(f"p{number}"))
        await until(lambda: len(seen.names("Pod", "default")) == 51)
        fake.faults.refuse = lambda verb, resource: 503 if verb in ("list", "watch") else None
        fake.restore(tmp_path / "backup")
        later = {f"later{number}" for number in range(30)}  # it comes past the version of all but the pods
        for name in later:
            put(admin, pod(name))
        allow(fake)
        await until(lambda: seen.names("Pod", "default") == {"stays", *later})
        await until(lambda: seen.names("AuthorizationPolicy", "default") == {"deny"})
        await until(lambda: seen.source.health.age == 0)


async def test_the_age_is_that_of_what_was_last_heard(fake: Fake, admin: Cluster) -> None:
    async with following(kube(fake)) as seen:
        watchers = {one.cache.kind.name: one.watcher for one in kube_of(seen).following}
        assert seen.source.health.age == 0
        forbid(fake, "services")
        await until(lambda: watchers["Service"].state == "forbidden")
        await eventually(lambda: seen.source.health.age > 0.3)
        heard = watchers["Service"].heard
        assert monotonic() - heard <= (seen.source.health.age + 0.001)
        assert seen.source.health.age <= monotonic() - heard
        allow(fake)
        await until(lambda: seen.source.health.age == 0)


def kube_of(seen: Following) -> Kube:
    assert isinstance(seen.source, Kube)
    return seen.source
