"""A kind followed through everything that can happen to a server and to the way there."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.kube.client import Client
from agent.kube.listwatch import Event, Gone, Name, Put
from agent.kube.watch import Watcher
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster
from tests.support.wait import until

_CONFIGMAPS = "/api/v1/configmaps"
_TIME = 60.0  # seconds; a watch that found a server away comes back in less than that


class Seen:
    """What a watcher tells of one namespace: versions by name, and how often each changed."""

    def __init__(self, client: Client, namespace: str, *paths: str, metadata: bool = False) -> None:
        self.there: dict[str, bytes] = {}
        self.states: list[str] = []
        self._namespace = namespace
        self.watcher = Watcher(
            client,
            paths or [_CONFIGMAPS],
            self._take,
            lambda: self.states.append(self.watcher.state),
            metadata=metadata,
        )
        self.watcher.start()

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Put(Name(self._namespace, name), raw):
                    self.there[name] = bytes(raw)
                case Gone(Name(self._namespace, name)):
                    self.there.pop(name, None)

    def names(self) -> set[str]:
        """All but the one that every namespace gets."""
        return self.there.keys() - {"kube-root-ca.crt"}


@pytest.fixture
def world(fake: Fake) -> Iterator["World"]:
    it = World(fake)
    yield it
    it.seen.watcher.stop()
    it.cluster.close()


class World:
    """A fake server, its admin, and a watcher of its config maps."""

    def __init__(self, fake: Fake) -> None:
        self.fake, self.cluster = fake, Cluster(fake.kubeconfig)
        self.seen = Seen(self.cluster.client, self.cluster.namespace)
        until(lambda: self.seen.watcher.state == "current")

    def put(self, name: str, **data: str) -> None:
        self.cluster.post({"metadata": {"name": name}, "data": data}, *self._maps)

    def delete(self, name: str) -> None:
        self.cluster.delete(*self._maps, name)

    def sees(self, *names: str) -> None:
        until(lambda: self.seen.names() == set(names), _TIME, f"{names}, not {self.seen.names()}")

    @property
    def _maps(self) -> tuple[str, ...]:
        return "api", "v1", "namespaces", self.cluster.namespace, "configmaps"


def test_on_a_real_server(cluster: Cluster) -> None:
    maps = "api", "v1", "namespaces", cluster.namespace, "configmaps"
    cluster.post({"metadata": {"name": "a"}}, *maps)
    seen = Seen(cluster.client, cluster.namespace)
    until(lambda: "a" in seen.there)
    cluster.post({"metadata": {"name": "b"}}, *maps)
    until(lambda: "b" in seen.there)
    cluster.delete(*maps, "a")
    until(lambda: "a" not in seen.there)
    seen.watcher.stop()


def test_many_pages(world: World) -> None:
    names = {f"m{number}" for number in range(1100)}
    for name in names:
        world.put(name)
    world.sees(*names)
    late = Seen(world.cluster.client, world.cluster.namespace)
    until(lambda: late.names() == names, _TIME)
    late.watcher.stop()


def test_away_and_back_in_the_middle_of_changes(world: World) -> None:
    world.put("stays")
    world.put("goes")
    world.sees("stays", "goes")
    world.fake.stop()
    until(lambda: world.seen.watcher.state == "away", _TIME)
    assert world.seen.names() == {"stays", "goes"}, "what is known stays in force"
    assert world.seen.watcher.error
    world.fake.start()
    world.delete("goes")
    world.put("comes")
    world.sees("stays", "comes")
    assert world.seen.watcher.state == "current"
    assert world.seen.watcher.restarts["Unreachable"] >= 2


def test_what_vanished_while_history_was_forgotten(world: World) -> None:
    world.put("stays")
    world.put("goes")
    world.sees("stays", "goes")
    world.fake.faults.refuse = lambda verb, resource: 503 if verb in ("watch", "list") else None
    world.fake.cut_watches()
    world.delete("goes")
    world.put("comes")
    world.fake.compact()
    world.fake.faults.refuse = lambda verb, resource: None
    world.sees("stays", "comes")
    assert world.seen.watcher.restarts["Expired"]


def test_cut_at_any_byte(world: World) -> None:
    chance = random.Random(1)
    world.fake.faults.watch_bytes = lambda: chance.randrange(1, 3000)
    world.fake.cut_watches()
    names = {f"m{number}" for number in range(40)}
    for name in names:
        world.put(name, text="ü" * chance.randrange(300))
        if chance.random() < 0.3:
            world.fake.cut_watches(chance.randrange(2000))
    world.fake.faults.watch_bytes = lambda: None
    world.sees(*names)


def test_events_that_come_twice(world: World) -> None:
    world.fake.faults.repeats = 3
    world.fake.cut_watches()
    world.put("a")
    world.put("b")
    world.delete("a")
    world.sees("b")


def test_an_object_of_a_megabyte(world: World) -> None:
    world.put("large", text="x" * 1_000_000)
    world.sees("large")
    assert len(world.seen.there["large"]) > 1_000_000


def test_what_is_forbidden_is_read_when_it_is_not(world: World) -> None:
    world.put("a")
    world.fake.faults.refuse = lambda verb, resource: (
        403 if resource == "configmaps" and verb != "create" else None
    )
    late = Seen(world.cluster.client, world.cluster.namespace)
    until(lambda: late.watcher.state == "forbidden")
    world.fake.faults.refuse = lambda verb, resource: None
    until(lambda: late.names() == {"a"}, _TIME)
    assert late.states == ["forbidden", "current"], "each told once"
    late.watcher.stop()


def test_a_watch_that_is_forbidden_lists_nothing_again(world: World) -> None:
    lists: list[int] = []

    def refuse(verb: str, resource: str) -> int | None:
        if (verb, resource) == ("list", "configmaps"):
            lists.append(1)
        return 403 if (verb, resource) == ("watch", "configmaps") else None

    world.put("a")
    world.sees("a")
    world.fake.faults.refuse = refuse
    world.fake.cut_watches()
    until(lambda: world.seen.watcher.restarts["Forbidden"] >= 2)
    assert (world.seen.watcher.state, world.seen.watcher.verb) == ("forbidden", "watch")
    assert len(lists) <= world.seen.watcher.restarts["Forbidden"] + 1, "only that the server is not behind"
    assert world.seen.states == ["current", "forbidden"], "it does not go back and forth"
    world.fake.faults.refuse = lambda verb, resource: None
    world.delete("a")
    world.sees()


@pytest.mark.parametrize("few", [0, 500])
def test_what_was_missed_is_told_before_it_counts_as_current(
    world: World, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.kube.watch._FEW", few)
    world.fake.faults.bookmark_every = 0.2
    known: list[set[str]] = []
    world.seen.watcher._noted = lambda: (
        known.append(world.seen.names()) if world.seen.watcher.state == "current" else None
    )
    for round in range(5):
        known.clear()
        world.fake.faults.refuse = lambda verb, resource: (
            403 if resource == "configmaps" and verb != "create" else None
        )
        world.fake.cut_watches()
        until(lambda: world.seen.watcher.state == "forbidden")
        world.put(f"missed{round}")
        world.fake.faults.refuse = lambda verb, resource: None
        until(lambda: known)
        assert known[0] == {f"missed{number}" for number in range(round + 1)}


def test_a_list_is_whole_or_none(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.kube.listwatch._PAGE", 1)
    world = World(fake)
    for name in "abc":
        world.put(name)
    pages: list[int] = []

    def refuse(verb: str, resource: str) -> int | None:
        if (verb, resource) == ("list", "configmaps"):
            pages.append(1)
            if len(pages) % 2 == 0:
                fake._server.api.compact()  # we are in its thread; the next page is of what is too old
        return None

    fake.faults.refuse = refuse
    late = Seen(world.cluster.client, world.cluster.namespace)
    until(lambda: late.watcher.restarts["Expired"] >= 2)
    assert late.watcher.state != "current"
    fake.faults.refuse = lambda verb, resource: None
    until(lambda: late.watcher.state == "current")
    assert late.names() == {"a", "b", "c"}
    late.watcher.stop()
    world.seen.watcher.stop()
    world.cluster.close()


def test_events_that_get_lost_are_made_up_for_by_a_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.kube.watch._RELIST", 0.5)
    monkeypatch.setattr("agent.kube.watch._RELIST_EACH", 0.0)
    monkeypatch.setattr("agent.kube.watch._LIFE", (1, 1))
    world.put("goes")
    late = Seen(world.cluster.client, world.cluster.namespace)
    until(lambda: late.names() == {"goes"})
    world.fake.faults.mutes = lambda resource: resource == "configmaps"
    world.put("comes")
    world.delete("goes")
    until(lambda: late.names() == {"comes"})
    assert late.states == ["current"]
    late.watcher.stop()


def test_a_watch_in_silence_is_made_up_for_by_a_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.kube.watch._IDLE", 0.3)
    late = Seen(world.cluster.client, world.cluster.namespace)
    until(lambda: late.watcher.state == "current")
    with world.fake.hold("configmaps"):
        world.put("a")
        until(lambda: late.names() == {"a"})
    assert "stale" in late.states
    assert late.watcher.restarts["Silent"]
    late.watcher.stop()


def test_restored_from_a_backup(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world.put("stays")
    world.put("comes-back")
    world.fake.save(tmp_path / "backup")
    world.delete("comes-back")
    for number in range(20):
        world.put(f"lost{number}")
    world.sees("stays", *(f"lost{number}" for number in range(20)))
    heard = world.seen.watcher.heard
    world.fake.restore(tmp_path / "backup")
    world.sees("stays", "comes-back")
    assert world.seen.watcher.restarts["WentBack"] == 1
    assert "was it restored from a backup? Listing all again" in caplog.text
    assert world.seen.watcher.heard > heard
    world.put("new")
    world.sees("stays", "comes-back", "new")


def test_a_kind_that_is_absent(cluster: Cluster) -> None:
    seen = Seen(cluster.client, "", "/apis/none.example/v1/nothings")
    until(lambda: seen.watcher.state == "absent")
    assert "404" in str(seen.watcher.error)
    seen.watcher.stop()


def test_another_version(cluster: Cluster) -> None:
    maps = "api", "v1", "namespaces", cluster.namespace, "configmaps"
    cluster.post({"metadata": {"name": "a"}}, *maps)
    seen = Seen(cluster.client, cluster.namespace, "/api/v2/configmaps", _CONFIGMAPS)
    until(lambda: "a" in seen.there)
    assert seen.states == ["current"]
    assert seen.watcher.path_to(Name("ns", "a")) == "/api/v1/namespaces/ns/configmaps/a"
    assert seen.watcher.path_to(Name("", "a")) == "/api/v1/configmaps/a"
    seen.watcher.stop()


def test_metadata_only(cluster: Cluster) -> None:
    maps: Any = ("api", "v1", "namespaces", cluster.namespace, "configmaps")
    cluster.post({"metadata": {"name": "listed"}, "data": {"secret": "text"}}, *maps)
    seen = Seen(cluster.client, cluster.namespace, metadata=True)
    until(lambda: "listed" in seen.there)
    cluster.post({"metadata": {"name": "watched"}, "data": {"secret": "text"}}, *maps)
    until(lambda: "watched" in seen.there)
    assert not [text for text in seen.there.values() if b"text" in text]
    seen.watcher.stop()


def test_a_mistake_of_ours_ends_no_watch(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []

    def tell(events: Iterable[Event]) -> None:
        told.append(len(list(events)))
        if len(told) == 1:
            raise ZeroDivisionError

    watcher = Watcher(cluster.client, [_CONFIGMAPS], tell, lambda: None)
    watcher.start()
    until(lambda: len(told) > 1)
    watcher.stop()
    assert "ZeroDivisionError" in caplog.text
    assert watcher.restarts["Malformed"] == 1
