"""Whose translation a change concerns."""

from collections.abc import Iterable, Iterator

from agent.model.entries import ServiceEntry, WorkloadEntry
from agent.model.objects import EndpointSlice, Key, Object, Pod, Service, fits, key_of
from agent.model.view import ServiceLike, View


def consequences(before: View, after: View, key: Key) -> set[Key]:
    """The objects that are to be translated again when one is different, itself among them."""
    old, new = before.store.objects.get(key), after.store.objects.get(key)
    return {key, *_concerned(before, after, key)} if old != new else set()


def _concerned(before: View, after: View, key: Key) -> Iterable[Key]:
    old, new = before.store.objects.get(key), after.store.objects.get(key)
    match key.kind:
        case "Node":
            return after.store.find("node", key.name)
        case "Namespace" if before.network != after.network:
            return after.store.objects
        case "Namespace":
            return _inhabitants(after, key.name)
        case "EndpointSlice":
            return _targets(old, new)
        case "Service" | "ServiceEntry":
            return (*_rivals_and_endpoints(before, old), *_rivals_and_endpoints(after, new))
        case _:
            return ()


def _inhabitants(view: View, namespace: str) -> Iterator[Key]:
    for kind in (Service, ServiceEntry, WorkloadEntry, EndpointSlice, Pod):
        yield from view.store.find(kind.__name__, namespace)


def _targets(old: Object | None, new: Object | None) -> Iterator[Key]:
    """Pods that a slice names; of those that stay, only when they are told something else."""
    slices = [item for item in (old, new) if isinstance(item, EndpointSlice)]
    named = [frozenset(item.pods) for item in slices]
    told = {(item.service, item.ports) for item in slices}
    stay = named[0] & named[-1] if len(slices) == 2 and len(told) == 1 else frozenset()
    for pod in frozenset().union(*named) - stay:
        yield Key("Pod", slices[0].metadata.namespace, pod)


def _rivals_and_endpoints(view: View, item: Object | None) -> Iterator[Key]:
    """Who claims the same hostnames, with what serves each of them, and who has the same addresses."""
    if not isinstance(item, ServiceLike):
        return
    rivals = {key_of(rival): rival for host in view.claims(item) for rival in view.claimants(host)}
    for key, rival in ({key_of(item): item} | rivals).items():
        yield key
        yield from _endpoints(view, rival)
        for address in rival.addresses:
            yield from view.store.find("address", str(address))


def _endpoints(view: View, item: ServiceLike) -> Iterator[Key]:
    store, namespace = view.store, item.metadata.namespace
    for pod in store.each(Pod, "Pod", namespace) if item.selector else ():
        if fits(item.selector, pod.metadata.labels):
            yield key_of(pod)
    for entry in store.each(WorkloadEntry, "WorkloadEntry", namespace) if item.selector else ():
        if fits(item.selector, entry.labels):
            yield key_of(entry)
    for endpoints in store.each(EndpointSlice, "slices", namespace, item.metadata.name):
        yield key_of(endpoints)
        yield from (Key("Pod", namespace, pod) for pod in endpoints.pods)
