"""Whose translation a change concerns."""

from collections.abc import Iterator

from agent.model.engine.kind import Kind
from agent.model.engine.members import labels_of
from agent.model.engine.store import depends_on
from agent.model.engine.view import ServiceLike, View
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.istio.workload_entry import WorkloadEntry
from agent.model.schema.kubernetes import EndpointSlice, Pod, Service
from agent.model.schema.objects import Key, key_of


def invalidated(kind: Kind, before: View, after: View, key: Key) -> set[Key]:
    """The objects that are to be translated again when one is different, itself among them."""
    old, new = before.store.objects.get(key), after.store.objects.get(key)
    if old == new:
        return set()
    keys = {key, *after.store.find(*depends_on(key))}
    if before.network != after.network:
        keys.update(after.store.objects)
    if old is not None:
        keys.update(kind.dependants(before, old))
    if new is not None:
        keys.update(kind.dependants(after, new))
    for label in {*(kind.asks(old) if old else ()), *(kind.asks(new) if new else ())}:
        if before.is_asked(label) != after.is_asked(label):
            keys.update(_labelled(after, label))
    return keys


def _labelled(view: View, name: str) -> Iterator[Key]:
    """The workloads that have a label, and what has such workloads in it."""
    for key, item in view.store.objects.items():
        if isinstance(item, ServiceEntry):
            found = any(name in endpoint.labels for endpoint in item.spec.endpoints)
        else:
            found = isinstance(item, Pod | WorkloadEntry) and name in labels_of(item)
        if found:
            yield key


def of_service(view: View, item: ServiceLike) -> Iterator[Key]:
    """Who claims the same hostnames, with what serves each of them, and who has the same addresses."""
    rivals = {key_of(rival): rival for host in view.claims(item) for rival in view.claimants(host)}
    for key, rival in ({key_of(item): item} | rivals).items():
        yield key
        yield from endpoints_of(view, rival)
        for address in rival.addresses:
            yield from view.store.find("address", str(address))


def endpoints_of(view: View, item: ServiceLike) -> Iterator[Key]:
    """What serves a service: workloads, and slices with the pods that they name."""
    store, namespace = view.store, item.metadata.namespace
    yield from map(key_of, view.selected(namespace, item.selector))
    for endpoints in store.each(EndpointSlice, "slices", namespace, item.metadata.name):
        yield key_of(endpoints)
        yield from of_slice(view, endpoints)


def of_slice(view: View, item: EndpointSlice) -> Iterator[Key]:
    """Pods that a slice makes endpoints of a Service."""
    namespace = item.metadata.namespace
    service = view.store.get(Service, namespace, item.service)
    if service and not service.selector:
        yield from (Key("Pod", namespace, pod) for pod in item.pods)
