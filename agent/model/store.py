"""All objects, and an index of what others look for them by. Never changed: `put` makes another one."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from immutables import Map
from msgspec import Struct

from agent.model.entries import ServiceEntry
from agent.model.objects import EndpointSlice, Key, Labels, Object, Pod, Service, fits
from agent.model.security import AuthorizationPolicy, PeerAuthentication, Policy
from agent.model.sidecar import Sidecar

T = TypeVar("T", bound=Object)

Entry = tuple[str, ...]  # what is asked for, for example ("node", "n1")
_NOTHING: Map[Key, None] = Map()


class Store(Struct, frozen=True):
    """The objects by key, and the keys by what `entries` gives for each."""

    objects: Map[Key, Object] = Map()
    index: Map[Entry, Map[Key, None]] = Map()

    def get(self, type_: type[T], namespace: str, name: str) -> T | None:
        """One object of a kind."""
        item = self.objects.get(Key(type_.__name__, namespace, name))
        assert item is None or isinstance(item, type_)
        return item

    def find(self, *entry: str) -> Iterable[Key]:
        """The keys of all objects that have an entry, in no order."""
        return self.index.get(entry, _NOTHING)

    def each(self, type_: type[T], *entry: str) -> Iterator[T]:
        """The objects of a kind that have an entry, in no order."""
        for key in self.find(*entry):
            item = self.objects[key]
            if isinstance(item, type_):
                yield item

    def selecting(self, namespace: str, labels: Labels) -> Iterator[Service | ServiceEntry]:
        """What selects a workload with these labels, in no order."""
        for item in self.labelled("selector", namespace, labels):
            if isinstance(item, Service | ServiceEntry) and fits(item.selector, labels):
                yield item

    def labelled(self, entry: str, namespace: str, labels: Labels) -> Iterator[Object]:
        """All objects that have an entry for one of these labels, in no order."""
        for name, value in labels.items():
            for key in self.index.get((entry, namespace, name, value), ()):
                yield self.objects[key]

    def put(self, key: Key, item: Object | None) -> "Store":
        """The same with an object set or (None) removed."""
        former = self.objects.get(key)
        if item is None and former is None:
            return self
        old, new = set(entries(former)), set(entries(item))
        index = self.index
        for entry in old - new:
            rest = index[entry].delete(key)
            index = index.set(entry, rest) if rest else index.delete(entry)
        for entry in new - old:
            index = index.set(entry, index.get(entry, _NOTHING).set(key, None))
        return Store(self.objects.set(key, item) if item else self.objects.delete(key), index)


def entries(item: Object | None) -> Iterator[Entry]:
    """Under what an object is found: its kind and namespace, and what others look for it by."""
    if item is None:
        return
    namespace = item.metadata.namespace
    yield type(item).__name__, namespace
    if isinstance(item, Policy) and item.refusal:
        yield ("refused",)
    match item:
        case Pod(spec=spec) if spec.node_name:
            yield "node", spec.node_name
        case EndpointSlice(service=service) if service:
            yield "slices", namespace, service
        case Service() | ServiceEntry():
            # One label of the selector is enough to be found by; whether all fit is seen then.
            yield from (("selector", namespace, *label) for label in sorted(item.selector.items())[:1])
            yield from (("address", str(address)) for address in item.addresses)
            if isinstance(item, Service) and not item.selector:
                yield "unselective", namespace
            if isinstance(item, ServiceEntry):
                yield from (("host", host) for host in item.spec.hosts)
        case PeerAuthentication():
            yield ("PeerAuthentication",)
        case Sidecar() if not item.selector:
            yield "unselective", "Sidecar", namespace
        case AuthorizationPolicy():
            yield from (("policy", namespace, *label) for label in sorted(item.selector.items())[:1])
            for target in item.targets:
                if target.is_service:
                    yield from (("attached", namespace), ("attached", namespace, target.kind, target.name))
