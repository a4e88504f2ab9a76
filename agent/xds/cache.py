"""The resources as they are now, by every name under which a client may ask for them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set

from agent.model.resources import Delta, Resource
from agent.model.unread import NOTHING_UNREAD


class Cache:
    """What is served.

    version: of the whole configuration; unread: objects of which it holds nothing, for they cannot be read.
    """

    def __init__(self) -> None:
        self.version = ""
        self.unread = NOTHING_UNREAD
        self._by_name: dict[str, dict[str, Resource]] = defaultdict(dict)  # by type URL
        self._by_alias: dict[str, dict[str, None]] = defaultdict(dict)  # names, the newest last
        self._sharing: dict[str, set[str]] = defaultdict(set)  # names, by an alias that is others' as well
        self._endpoints: dict[str, set[str]] = defaultdict(set)  # of a service: workloads

    def apply(self, delta: Delta, version: str) -> Mapping[str, Set[str]]:
        """Take over a delta; gives the names of the resources that it holds, by type URL."""
        touched: dict[str, set[str]] = defaultdict(set)
        for type_url, name in delta.removed:
            self._unlink(self._by_name[type_url].pop(name))
            touched[type_url].add(name)
        for resource in delta.changed:
            if former := self._by_name[resource.type_url].get(resource.name):
                self._unlink(former)
            self._by_name[resource.type_url][resource.name] = resource
            self._link(resource)
            touched[resource.type_url].add(resource.name)
        self.version = version
        return touched

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
        return resources.get(next(reversed(aliased))) if aliased else None

    def owners(self, resource: Resource) -> Iterator[str]:
        """Names of all that have one of its addresses: who is preferred, the client decides."""
        for alias in (*resource.aliases, *resource.shares):
            yield from self._by_alias.get(alias, ())

    def neighbours(self, resource: Resource) -> Iterator[str]:
        """Names of all of which it is an owner, as `owners` has it."""
        for alias in resource.aliases:
            yield from self._by_alias.get(alias, ())
            yield from self._sharing.get(alias, ())

    def endpoints(self, resource: Resource) -> Set[str]:
        """Names of the workloads that a service leads to; none for a workload."""
        return self._endpoints.get(resource.name, frozenset())

    def count(self) -> dict[str, int]:
        """How many resources there are of each type URL."""
        return {type_url: len(resources) for type_url, resources in self._by_name.items()}

    def _link(self, resource: Resource) -> None:
        for alias in resource.aliases:
            self._by_alias[alias][resource.name] = None
        for alias in resource.shares:
            self._sharing[alias].add(resource.name)
        for service in resource.endpoint_of:
            self._endpoints[service].add(resource.name)

    def _unlink(self, resource: Resource) -> None:
        for alias in resource.aliases:
            del self._by_alias[alias][resource.name]
            if not self._by_alias[alias]:
                del self._by_alias[alias]
        for index, keys in ((self._sharing, resource.shares), (self._endpoints, resource.endpoint_of)):
            for key in keys:
                index[key].discard(resource.name)
                if not index[key]:
                    del index[key]
