"""Which clients of a service something may hold for that does not hold for others."""

from collections.abc import Iterator, Sequence

from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.base import Route
from agent.model.schema.istio.destination_rule import DestinationRule
from agent.model.schema.istio.virtual_service import VirtualService
from agent.model.schema.objects import key_of
from agent.model.translation.routes.backends import InvalidBackend, backend, refs_of
from agent.model.translation.routes.client import Client
from agent.model.translation.routes.delegates import with_delegates
from agent.model.translation.routes.destinations import POLICY_OF
from agent.model.translation.routes.names import covers, naming, resolve
from agent.model.translation.routes.parents import ROUTES_OF
from agent.model.translation.routes.virtual_services import ROUTED_BY, destinations_of


def clients(view: View, service: ServiceLike, names: Sequence[str]) -> list[Client]:
    """Those with labels before all of their namespace; the last are all others.

    names: the service's hostname and, where that is a wildcard, those under it that have rules of their own.
    """
    virtual = [item for name in names for item in _virtual_services(view, name)]
    routes = list(_routes(view, view.parts(names[0], service.metadata.namespace)))
    hosts = {names[0], *_sent_to(view, virtual, routes)}
    rules = list(_rules(view, hosts))
    places = {one.metadata.namespace for one in routes} | {*_exported(virtual), *_exported(rules)}
    places |= {rule.metadata.namespace for rule in rules}
    for one in hosts:
        named = {claimant.metadata.namespace for claimant in view.claimants(one)}
        places |= named if len(named) > 1 else set()
    selected = {_selected(rule) for rule in rules if rule.selector}
    return [*sorted(selected), *map(Client, sorted(places)), Client()]


def _selected(rule: DestinationRule) -> Client:
    return Client(rule.metadata.namespace, tuple(sorted(rule.selector.items())))


def _virtual_services(view: View, host: str) -> Iterator[VirtualService]:
    for key in naming(view, ROUTED_BY, [host]):
        item = view.store.objects[key]
        if isinstance(item, VirtualService) and _is_for(view, item, host):
            yield item


def _is_for(view: View, item: VirtualService, host: str) -> bool:
    return any(covers(view.mesh, one, item.metadata.namespace, host) for one in item.spec.hosts)


def _routes(view: View, parts: list[ServiceLike]) -> Iterator[Route]:
    for part in parts:
        yield from view.store.each(Route, ROUTES_OF, *key_of(part))


def _sent_to(view: View, virtual: list[VirtualService], routes: list[Route]) -> Iterator[str]:
    for item in virtual:
        for owner, rule in with_delegates(view, item):
            for one in destinations_of(rule):
                yield resolve(view.mesh, one.host, owner.metadata.namespace)
        for l4 in item.spec.l4:
            for share in l4.route:
                yield resolve(view.mesh, share.destination.host, item.metadata.namespace)
    for route in routes:
        for ref in refs_of(route):
            try:
                yield backend(view, route, ref).host
            except InvalidBackend:
                continue


def _rules(view: View, hosts: set[str]) -> Iterator[DestinationRule]:
    for key in {*naming(view, POLICY_OF, hosts)}:
        rule = view.store.objects[key]
        if isinstance(rule, DestinationRule):
            yield rule


def _exported(items: list[VirtualService] | list[DestinationRule]) -> Iterator[str]:
    """The namespaces that they are for, where that is not all of them."""
    for item in items:
        own = item.metadata.namespace
        yield from (own if name == "." else name for name in item.spec.export_to if name != "*")
