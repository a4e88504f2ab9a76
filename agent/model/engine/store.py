"""All objects, and an index of what others look for them by. Never changed: `put` makes another one."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from immutables import Map
from msgspec import Struct

from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import Service
from agent.model.schema.objects import Key, Labels, Object, fits

T = TypeVar("T", bound=Object)

Entry = tuple[str, ...]  # what is asked for, for example ("node", "n1")
Keys = tuple[Key, ...] | Map[Key, None]  # of a few, in their order; of many
_FEW = 256  # of which a tuple takes an eighth of a map's memory, and is copied in five microseconds at most


class Store(Struct, frozen=True):
    """The objects by key, and the keys by the entries of each (`Kind.entries`)."""

    objects: Map[Key, Object] = Map()
    index: Map[Entry, Keys] = Map()

    def get(self, type_: type[T], namespace: str, name: str) -> T | None:
        """One object of a kind."""
        item = self.objects.get(Key(type_.__name__, namespace, name))
        assert item is None or isinstance(item, type_)
        return item

    def find(self, *entry: str) -> Iterable[Key]:
        """The keys of all objects that have an entry, in no order."""
        return self.index.get(entry, ())

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

    def put(self, key: Key, item: Object | None, entries: Callable[[Any], set[Entry]]) -> "Store":
        """The same with an object set or (None) removed. entries: those of an object of its kind."""
        former = self.objects.get(key)
        if item is None and former is None:
            return self
        old = entries(former) if former else set()
        new = entries(item) if item else set()
        index = self.index
        for entry in old - new:
            rest = _without(index[entry], key)
            index = index.set(entry, rest) if rest else index.delete(entry)
        for entry in new - old:
            index = index.set(entry, _with(index.get(entry, ()), key))
        return Store(self.objects.set(key, item) if item else self.objects.delete(key), index)


def _with(keys: Keys, key: Key) -> Keys:
    if isinstance(keys, Map):
        return keys.set(key, None)
    at = bisect_left(keys, key)
    keys = (*keys[:at], key, *keys[at:])
    return keys if len(keys) < _FEW else Map(dict.fromkeys(keys))


def _without(keys: Keys, key: Key) -> Keys:
    if isinstance(keys, Map):
        keys = keys.delete(key)
        return keys if len(keys) >= _FEW else tuple(sorted(keys))
    at = bisect_left(keys, key)
    return keys[:at] + keys[at + 1 :]


def asks_for(label: str) -> Entry:
    """The entry of all objects because of which the tunnels are told a label of workloads."""
    return "asks for", label


def depends_on(key: Key) -> Entry:
    """The entry of all that is to be translated again when one object is different."""
    return "dependant", *key
