"""Whose translation a change concerns."""

from collections.abc import Iterator

from agent.model.entries import ServiceEntry, WorkloadEntry
from agent.model.guards import judged_by, selected_by
from agent.model.objects import EndpointSlice, Key, Object, Pod, Service, key_of
from agent.model.security import AuthorizationPolicy, PeerAuthentication
from agent.model.traffic import of_namespace
from agent.model.view import ServiceLike, View


def consequences(before: View, after: View, key: Key) -> set[Key]:
    """The objects that are to be translated again when one is different, itself among them."""
    old, new = before.store.objects.get(key), after.store.objects.get(key)
    return {key, *_concerned(before, after, key)} if old != new else set()


def _concerned(before: View, after: View, key: Key) -> Iterator[Key]:
    old, new = before.store.objects.get(key), after.store.objects.get(key)
    match key.kind:
        case "Node":
            yield from after.store.find("node", key.name)
        case "Namespace" if before.network != after.network:
            yield from after.store.objects
        case "Namespace":
            yield from _inhabitants(after, key.name)
        case "EndpointSlice":
            yield from _named(before, old)
            yield from _named(after, new)
        case "Service" | "ServiceEntry":
            yield from _rivals_and_endpoints(before, old)
            yield from _rivals_and_endpoints(after, new)
        case "AuthorizationPolicy" | "PeerAuthentication":
            yield from _guarded(before, old)
            yield from _guarded(after, new)
        case "Sidecar":
            yield from of_namespace(after, key.namespace)


def _inhabitants(view: View, namespace: str) -> Iterator[Key]:
    for kind in (Service, ServiceEntry, WorkloadEntry, EndpointSlice, Pod):
        yield from view.store.find(kind.__name__, namespace)


def _named(view: View, item: Object | None) -> Iterator[Key]:
    """Pods that a slice makes endpoints of a Service."""
    if isinstance(item, EndpointSlice):
        namespace = item.metadata.namespace
        service = view.store.get(Service, namespace, item.service)
        if service and not service.selector:
            yield from (Key("Pod", namespace, pod) for pod in item.pods)


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


def _guarded(view: View, item: Object | None) -> Iterator[Key]:
    """The workloads that have to name a policy, and those of whom it decides what they name."""
    if isinstance(item, PeerAuthentication):
        yield from judged_by(view, item)
    if isinstance(item, AuthorizationPolicy):
        yield from selected_by(view, item)
        for target in item.targets:
            service = view.store.objects.get(Key(target.kind, item.metadata.namespace, target.name))
            if isinstance(service, ServiceLike):
                yield from _endpoints(view, service)


def _endpoints(view: View, item: ServiceLike) -> Iterator[Key]:
    store, namespace = view.store, item.metadata.namespace
    yield from map(key_of, view.selected(namespace, item.selector))
    for endpoints in store.each(EndpointSlice, "slices", namespace, item.metadata.name):
        yield key_of(endpoints)
        yield from _named(view, endpoints)
