"""Whose translation a change of a route, a rule or a service concerns."""

from collections.abc import Iterable, Iterator

from agent.model.engine import invalidation
from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.base import ISTIO, ObjectReference, Route
from agent.model.schema.gateway.l4_routes import ReferenceGrant
from agent.model.schema.istio.destination_rule import DestinationRule
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.istio.virtual_service import VirtualService
from agent.model.schema.kubernetes import Service
from agent.model.schema.objects import Key, key_of
from agent.model.translation import waypoint
from agent.model.translation.gateways import attachments
from agent.model.translation.gateways import pods as gateways
from agent.model.translation.remotes import ASKS
from agent.model.translation.routes import parents
from agent.model.translation.routes.backends import refs_of
from agent.model.translation.routes.bound import BOUND_TO, bound_to
from agent.model.translation.routes.delegates import DELEGATES_TO, delegate_of
from agent.model.translation.routes.destinations import POLICY_OF
from agent.model.translation.routes.names import (
    WILDCARD,
    entry_of,
    naming,
    resolve,
    routes_of,
    routes_of_service,
    routes_over,
    wildcards_over,
)
from agent.model.translation.routes.parents import ROUTES_OF, parent_of
from agent.model.translation.routes.virtual_services import ROUTED_BY, ROUTED_UNDER, destinations_of

_SENDS_TO = "sends to"  # index: rules by the hosts that they send to
_SENDS_INTO = "sends into"  # index: routes by the other namespaces whose objects they send to


def virtual_service_index(item: VirtualService) -> Iterator[Entry]:
    namespace = item.metadata.namespace
    for host in item.spec.hosts:
        yield ROUTED_BY, entry_of(host, namespace)
        yield from ((ROUTED_UNDER, wildcard) for wildcard in wildcards_over(host))
    yield from ((BOUND_TO, *place) for place in bound_to(item))
    for rule in item.spec.http:
        if rule.delegate:
            yield DELEGATES_TO, rule.delegate.namespace or namespace, rule.delegate.name
        yield from ((_SENDS_TO, entry_of(one.host, namespace)) for one in destinations_of(rule))
    for l4 in item.spec.l4:
        yield from ((_SENDS_TO, entry_of(one.destination.host, namespace)) for one in l4.route)


def destination_rule_index(item: DestinationRule) -> Iterator[Entry]:
    yield POLICY_OF, entry_of(item.spec.host, item.metadata.namespace)


def route_index(item: Route) -> Iterator[Entry]:
    yield from parents.index(item)
    yield from attachments.index(item)
    own = item.metadata.namespace
    for ref in refs_of(item):
        namespace = ref.namespace or own
        yield _SENDS_TO, _entry(ref, namespace)
        if namespace != own:
            yield _SENDS_INTO, namespace


def _entry(ref: ObjectReference, namespace: str) -> str:
    if (ref.group, ref.kind) == (ISTIO, "Hostname"):
        return ref.name
    return _by_name(ref.kind, namespace, ref.name)


def _by_name(kind: str, namespace: str, name: str) -> str:
    """An object; a Service as a short host is found (`names.entry_of`)."""
    return f"{name}/{namespace}" if kind == "Service" else f"{kind}/{namespace}/{name}"


def of_virtual_service(view: View, item: VirtualService) -> Iterator[Key]:
    """The routes of its hosts, and of those whose rules are left to it."""
    yield from _of_hosts(view, item)
    for key in view.store.find(DELEGATES_TO, item.metadata.namespace, item.metadata.name):
        yield key
        root = view.store.objects[key]
        if isinstance(root, VirtualService):
            yield from _of_hosts(view, root)


def _of_hosts(view: View, item: VirtualService) -> Iterator[Key]:
    if item.spec.bound_gateways:
        yield from gateways.keys(view)
    for host in item.spec.hosts:
        yield from routes_of(view, resolve(view.mesh, host, item.metadata.namespace))
        yield from routes_over(view, host)


def of_destination_rule(view: View, item: DestinationRule) -> Iterator[Key]:
    """The routes in which it may be told, and other rules for the host: the oldest takes precedence."""
    host = resolve(view.mesh, item.spec.host, item.metadata.namespace)
    yield from routes_of(view, host)
    if not host.startswith(WILDCARD):
        yield from naming(view, POLICY_OF, [host])
        yield from _senders(view, host)
        return
    for key, other in view.store.objects.items():  # any of them may be for what the wildcard covers
        if isinstance(other, DestinationRule):
            yield key
        elif isinstance(other, VirtualService | Route):
            yield from _with_routes(view, key)


def of_route(view: View, item: Route) -> Iterator[Key]:
    """The routes of its parents, and who else is for these: one may take precedence of the other."""
    if not all(parent.is_service for parent in item.parents):
        yield from gateways.keys(view)
    for parent in item.parents:
        service = parent_of(view, item, parent) if parent.is_service else None
        if service:
            yield from routes_of_service(view, service)
            yield from _routes_for(view, service)
            yield from _routing(view, view.claims(service))


def of_grant(view: View, item: ReferenceGrant) -> Iterator[Key]:
    """Gateways may refer to Secrets of its namespace."""
    yield from gateways.keys(view)
    for key in view.store.find(_SENDS_INTO, item.metadata.namespace):
        yield from _with_routes(view, key)


def of_service(view: View, item: ServiceLike) -> Iterator[Key]:
    """Beside what it concerns at L4: its routes, and those that name or send to it."""
    yield from invalidation.of_service(view, item)
    yield from gateways.of_service(view, item)
    yield from waypoint.users(view, item.metadata.namespace, item.metadata.name)
    yield from _of_service(view, item)
    yield from view.store.find(*ASKS)


def of_namespace(view: View, name: str) -> Iterator[Key]:
    """What it says, its services inherit; Gateways may allow it by its labels."""
    yield from gateways.keys(view)
    for service in view.store.each(Service, "Service", name):
        yield from _of_service(view, service)
    for entry in view.store.each(ServiceEntry, "ServiceEntry", name):
        yield from _of_service(view, entry)


def _routes_for(view: View, item: ServiceLike) -> Iterator[Key]:
    """Routes whose parent it is, or another that has its hostnames too: they may be one service."""
    yield from view.store.find(ROUTES_OF, *key_of(item))
    for host in view.claims(item):
        for claimant in view.claimants(host):
            yield from view.store.find(ROUTES_OF, *key_of(claimant))


def _of_service(view: View, item: ServiceLike) -> Iterator[Key]:
    yield from _routes_for(view, item)
    yield from _sending_to(view, item)
    for host in view.claims(item):
        yield from routes_of(view, host)
        yield from _routing(view, [host])
        yield from naming(view, POLICY_OF, [host])
        yield from _senders(view, host)


def _routing(view: View, hosts: Iterable[str]) -> Iterator[Key]:
    """The VirtualServices that may be for one of these hostnames, or for a name under it and send there."""
    yield from naming(view, ROUTED_BY, hosts)
    for host in hosts:
        for item in view.store.each(VirtualService, ROUTED_UNDER, host):
            yield from _with_routes(view, key_of(item))
            yield from (key_of(other) for rule in item.spec.http if (other := delegate_of(view, item, rule)))


def _senders(view: View, host: str) -> Iterator[Key]:
    """Who sends to a hostname, or to an object that claims it, each with the routes that it is told in."""
    for key in naming(view, _SENDS_TO, [host]):
        yield from _with_routes(view, key)
    for claimant in view.claimants(host):
        yield from _sending_to(view, claimant)


def _sending_to(view: View, item: ServiceLike) -> Iterator[Key]:
    """The routes that name an object as a backend."""
    key = key_of(item)
    for sender in view.store.find(_SENDS_TO, _by_name(key.kind, key.namespace, key.name)):
        yield from _with_routes(view, sender)


def _with_routes(view: View, key: Key) -> Iterator[Key]:
    """An object that rules are in, with the routes that these rules are told in."""
    yield key
    item = view.store.objects[key]
    if isinstance(item, VirtualService):
        yield from of_virtual_service(view, item)
    elif isinstance(item, Route):
        yield from of_route(view, item)
