"""Workloads and slices by what others look for them by: made when first asked for, kept as long as they stay.

An index in the store would cost memory for each label of each pod; this one is made for those labels alone
that are asked for, once for all objects that change together.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from agent.model.engine.store import Store
from agent.model.resources import Template
from agent.model.schema.istio.workload_entry import WorkloadEntry
from agent.model.schema.kubernetes import EndpointSlice, Pod, Service
from agent.model.schema.objects import Labels, fits, key_of

Workload = Pod | WorkloadEntry
_MOST = 4096  # templates


class Members:
    """Good for stores with the same workloads: whoever changes one goes on with another."""

    __slots__ = ("_by_label", "_by_pod", "_store", "_templates")

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str], Mapping[str, Sequence[Workload]]] = {}
        self._by_pod: dict[str, Mapping[str, Sequence[EndpointSlice]]] = {}
        self._templates: dict[Hashable, Template] = {}
        self._store: Store | None = None  # of the last two, which depend on all that there is

    def selected(self, store: Store, namespace: str, selector: Labels) -> Iterator[Workload]:
        """The workloads that a selector selects, in a namespace or (empty) in all. No selector: none."""
        if not selector:
            return
        name, value = min(selector.items())
        if (by_value := self._by_label.get((namespace, name))) is None:
            everyone = workloads(store, namespace) if namespace else _everywhere(store)
            by_value = self._by_label[namespace, name] = _by(name, everyone)
        for item in by_value.get(value, ()):
            if fits(selector, labels_of(item)):
                yield item

    def naming(self, store: Store, pod: Pod) -> Sequence[EndpointSlice]:
        """The slices of Services without a selector that have this pod as an endpoint, in order."""
        self._enter(store)
        namespace = pod.metadata.namespace
        if (by_pod := self._by_pod.get(namespace)) is None:
            by_pod = self._by_pod[namespace] = _slices(store, namespace)
        return by_pod.get(pod.metadata.name, ())

    def templates(self, store: Store) -> dict[Hashable, Template]:
        """What was made for pods of one template, by what they have in common."""
        self._enter(store)
        if len(self._templates) > _MOST:  # of pods that have nothing in common
            self._templates.clear()
        return self._templates

    def _enter(self, store: Store) -> None:
        if store is not self._store:
            self._store, self._by_pod, self._templates = store, {}, {}


def labels_of(item: Workload) -> Labels:
    """What selectors look at."""
    return item.labels if isinstance(item, WorkloadEntry) else item.metadata.labels


def workloads(store: Store, namespace: str) -> Iterator[Workload]:
    """All of a namespace."""
    yield from store.each(Pod, "Pod", namespace)
    yield from store.each(WorkloadEntry, "WorkloadEntry", namespace)


def _everywhere(store: Store) -> Iterator[Workload]:
    return (item for item in store.objects.values() if isinstance(item, Workload))


def _by(name: str, items: Iterable[Workload]) -> Mapping[str, Sequence[Workload]]:
    result = defaultdict(list)
    for item in items:
        if (value := labels_of(item).get(name)) is not None:
            result[value].append(item)
    return result


def _slices(store: Store, namespace: str) -> Mapping[str, Sequence[EndpointSlice]]:
    result = defaultdict(list)
    for service in store.each(Service, "unselective", namespace):
        slices = store.each(EndpointSlice, "slices", namespace, service.metadata.name)
        for one in sorted(slices, key=key_of):
            for pod in one.pods:
                result[pod].append(one)
    return result
