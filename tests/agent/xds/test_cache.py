"""Whom a change concerns, of those who watch."""

from collections.abc import Iterator, Set

import pytest

from agent.model.resources import ADDRESS, AUTHORIZATION, Delta, Resource
from agent.xds.cache import Cache

WEB = Resource(ADDRESS, "ns/web", "w1", b"", ("/10.96.0.1",))
A = Resource(ADDRESS, "uid/a", "a1", b"", ("/10.0.0.1",), ("ns/web",))
B = Resource(ADDRESS, "uid/b", "b1", b"", ("/10.0.0.2",))
Told = tuple[Set[str], bool, float | None]


class Watching:
    """Keeps what it is told."""

    def __init__(self, cache: Cache, *names: str) -> None:
        self.told: list[Told] = []
        cache.watch(ADDRESS, self, set(names) if names else None)

    def changed(self, names: Set[str], *, relinked: bool, since: float | None) -> None:
        self.told.append((set(names), relinked, since))

    def taken(self) -> Iterator[Told]:
        while self.told:
            yield self.told.pop(0)


@pytest.fixture
def cache() -> Cache:
    made = Cache()
    made.apply(Delta((WEB, A, B)), "1")
    return made


def put(cache: Cache, *changed: Resource) -> None:
    cache.apply(Delta(changed), "2", 4.0)


def test_only_those_hear_of_a_change_whom_it_concerns(cache: Cache) -> None:
    all_, web, address, other = (
        Watching(cache, *names) for names in ((), ("ns/web",), ("/10.0.0.2",), ("x",))
    )
    put(cache, Resource(ADDRESS, "uid/b", "b2", b"2", ("/10.0.0.2",)))
    assert [*all_.taken()] == [({"uid/b"}, False, 4.0)]
    put(cache, Resource(ADDRESS, "uid/b", "b3", b"2", ("/10.0.0.2",), ("ns/web",)))
    assert [*all_.taken()] == [*web.taken()] == [*address.taken()] == [({"uid/b"}, True, 4.0)]
    cache.apply(Delta(removed=((ADDRESS, "ns/web"),)), "3")
    assert [*web.taken()] == [({"ns/web"}, True, None)]
    put(cache, Resource(AUTHORIZATION, "ns/web", "1", b""))
    assert not other.told
    assert not web.told
    assert not address.told


def test_who_does_not_watch_any_more_hears_nothing(cache: Cache) -> None:
    one, other = Watching(cache, "uid/a", "uid/b"), Watching(cache)
    cache.watch(ADDRESS, one, {"uid/b"})
    cache.watch(ADDRESS, other, frozenset())
    cache.apply(Delta(removed=((ADDRESS, "uid/a"),)), "2")
    assert not one.told
    assert not other.told
    cache.watch(ADDRESS, one, frozenset())
    assert not cache.watched(ADDRESS)


def test_an_address_of_two_stays_whose_it_is_while_their_addresses_are_the_same(cache: Cache) -> None:
    twin = Resource(ADDRESS, "uid/twin", "t1", b"", ("/10.0.0.2",))
    put(cache, twin)
    assert cache.get(ADDRESS, "/10.0.0.2") == twin
    put(cache, Resource(ADDRESS, "uid/b", "b2", b"2", ("/10.0.0.2",)))
    assert cache.get(ADDRESS, "/10.0.0.2") == twin


def test_of_several_with_an_address_the_newest_that_is_left_has_it(cache: Cache) -> None:
    twins = [Resource(ADDRESS, f"uid/{name}", "1", b"", ("/10.0.0.2",)) for name in ("c", "d")]
    put(cache, *twins)
    asked = Resource(ADDRESS, "uid/e", "1", b"", (), (), ("/10.0.0.2",))
    assert [*cache.owners(asked)] == ["uid/b", "uid/c", "uid/d"]
    for newest, gone in (("uid/d", "uid/c"), ("uid/b", "uid/d")):
        cache.apply(Delta(removed=((ADDRESS, gone),)), "2")
        found = cache.get(ADDRESS, "/10.0.0.2")
        assert found and found.name == newest
    cache.apply(Delta(removed=((ADDRESS, "uid/b"),)), "2")
    assert not cache.get(ADDRESS, "/10.0.0.2")
    assert not [*cache.owners(asked)]
