"""The resources as they are now, by every name under which a client may ask for them, and who is to hear of
a change: of a thousand clients that each asked for a little, the few that it concerns.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from typing import Protocol

from agent.model.resources import Delta, Resource
from agent.model.unread import NOTHING_UNREAD


class Watcher(Protocol):
    """Whoever hears of changes."""

    def changed(self, names: Set[str], *, relinked: bool, since: float | None) -> None:
        """Resources of these proper names are different, new or gone.

        relinked: whether one of them may lead to others than before: it is new, gone, or has other addresses
        or services. since: when the change was heard of, on the monotonic clock.
        """


class Cache:
    """What is served.

    version: of the whole configuration; unread: objects of which it holds nothing, for they cannot be read.
    """

    def __init__(self) -> None:
        self.version = ""
        self.unread = NOTHING_UNREAD
        self._by_name: dict[str, dict[str, Resource]] = defaultdict(dict)  # by type URL
        self._by_alias: dict[str, str] = {}  # the name of the newest
        self._former: dict[str, tuple[str, ...]] = {}  # by alias: of older ones with it, the newest last
        # Names as keys, which take half of what they take in sets:
        self._sharing: dict[str, dict[str, None]] = defaultdict(dict)  # by an alias that is others' as well
        self._endpoints: dict[str, dict[str, None]] = defaultdict(dict)  # of a service: workloads
        self._watchers: dict[str, _Watchers] = defaultdict(_Watchers)  # by type URL

    def apply(self, delta: Delta, version: str, since: float | None = None) -> None:
        """Take over a delta and tell whom it concerns. since: as in `Watcher`."""
        touched: dict[str, set[str]] = defaultdict(set)
        relinked: dict[str, set[str]] = defaultdict(set)
        for type_url, name in delta.removed:
            self._unlink(self._by_name[type_url].pop(name))
            touched[type_url].add(name)
            relinked[type_url].add(name)
        for resource in delta.changed:
            touched[resource.type_url].add(resource.name)
            if self._put(resource):
                relinked[resource.type_url].add(resource.name)
        self.version = version
        for type_url, names in touched.items():
            self._tell(type_url, names, relinked[type_url], since)

    def watch(self, type_url: str, watcher: Watcher, names: Set[str] | None) -> None:
        """From now on tell it of changes of what has one of these names, would be an endpoint of what has,
        or shares an address with it; None: of all changes.
        """
        self._watchers[type_url].put(watcher, names)

    def watched(self, type_url: str) -> int:
        """How many are told of changes."""
        return len(self._watchers[type_url].names)

    def names(self, type_url: str) -> Iterable[str]:
        """The proper names of all resources of a type."""
        return self._by_name[type_url].keys() if type_url in self._by_name else ()

    def versions(self) -> dict[str, dict[str, str]]:
        """By type URL, the version of each resource by its name."""
        return {
            url: {name: resource.version for name, resource in resources.items()}
            for url, resources in self._by_name.items()
        }

    def get(self, type_url: str, name: str) -> Resource | None:
        """The resource of that name or alias. Where several share an address the newest has it."""
        resources = self._by_name.get(type_url, {})
        if resource := resources.get(name):
            return resource
        aliased = self._by_alias.get(name)
        return resources.get(aliased) if aliased else None

    def owners(self, resource: Resource) -> Iterator[str]:
        """Names of all that have one of its addresses: who is preferred, the client decides."""
        for alias in (*resource.aliases, *resource.shares):
            yield from self._having(alias)

    def neighbours(self, resource: Resource) -> Iterator[str]:
        """Names of all of which it is an owner, as `owners` has it."""
        for alias in resource.aliases:
            yield from self._having(alias)
            yield from self._sharing.get(alias, ())

    def endpoints(self, resource: Resource) -> Set[str]:
        """Names of the workloads that a service leads to; none for a workload."""
        return self._endpoints.get(resource.name, {}).keys()

    def count(self) -> dict[str, int]:
        """How many resources there are of each type URL."""
        return {type_url: len(resources) for type_url, resources in self._by_name.items()}

    def _put(self, resource: Resource) -> bool:
        """Whether it leads to others than before. An address that several share stays whose it is if not."""
        resources = self._by_name[resource.type_url]
        former = resources.get(resource.name)
        resources[resource.name] = resource
        if former and _links(former) == _links(resource):
            return False
        if former:
            self._unlink(former)
        self._link(resource)
        return True

    def _tell(self, type_url: str, names: Set[str], relinked: Set[str], since: float | None) -> None:
        watchers = self._watchers[type_url]
        for watcher in watchers.of_everything:
            watcher.changed(names, relinked=bool(relinked), since=since)
        concerned: dict[Watcher, set[str]] = defaultdict(set)
        for name in names:
            for key in self._leading_to(type_url, name) if name in relinked else (name,):
                for watcher in watchers.by_name.get(key, ()):
                    concerned[watcher].add(name)
        for watcher, those in concerned.items():
            watcher.changed(those, relinked=not relinked.isdisjoint(those), since=since)

    def _leading_to(self, type_url: str, name: str) -> Iterator[str]:
        """What somebody has asked for whom it may matter what became of this one."""
        yield name
        if resource := self.get(type_url, name):
            yield from resource.aliases
            yield from resource.endpoint_of
            yield from self.neighbours(resource)

    def _link(self, resource: Resource) -> None:
        for alias in resource.aliases:
            if former := (*self._having(alias),):
                self._former[alias] = former
            self._by_alias[alias] = resource.name
        for alias in resource.shares:
            self._sharing[alias][resource.name] = None
        for service in resource.endpoint_of:
            self._endpoints[service][resource.name] = None

    def _unlink(self, resource: Resource) -> None:
        for alias in resource.aliases:
            rest = [name for name in self._having(alias) if name != resource.name]
            self._by_alias.pop(alias, None)
            self._former.pop(alias, None)
            if rest:
                *former, self._by_alias[alias] = rest
                if former:
                    self._former[alias] = tuple(former)
        for index, keys in ((self._sharing, resource.shares), (self._endpoints, resource.endpoint_of)):
            for key in keys:
                index[key].pop(resource.name, None)
                if not index[key]:
                    del index[key]

    def _having(self, alias: str) -> Iterator[str]:
        """Names of all that have an alias for themselves, the newest last."""
        yield from self._former.get(alias, ())
        if newest := self._by_alias.get(alias):
            yield newest


class _Watchers:
    """Of one type."""

    def __init__(self) -> None:
        self.names: dict[Watcher, Set[str] | None] = {}
        self.of_everything: set[Watcher] = set()
        self.by_name: dict[str, set[Watcher]] = defaultdict(set)

    def put(self, watcher: Watcher, names: Set[str] | None) -> None:
        former = self.names.pop(watcher, None) or frozenset()
        if names is None or names:
            self.names[watcher] = names
        (self.of_everything.add if names is None else self.of_everything.discard)(watcher)
        wanted = names or frozenset()
        for name in former - wanted:
            self.by_name[name].discard(watcher)
            if not self.by_name[name]:
                del self.by_name[name]
        for name in wanted - former:
            self.by_name[name].add(watcher)


def _links(resource: Resource) -> tuple[tuple[str, ...], ...]:
    return resource.aliases, resource.endpoint_of, resource.shares
