"""Whose translation a change of the Gateway API's Gateways concerns."""

from collections.abc import Iterator

from agent.model.engine.view import View
from agent.model.mesh import ROOT_NAMESPACE
from agent.model.schema.gateway.gateway import GatewayClass, KubernetesGateway, ListenerSet
from agent.model.schema.objects import Key, key_of
from agent.model.translation import waypoint
from agent.model.translation.gateways import attachments, pods


def of_gateway(view: View, item: KubernetesGateway) -> Iterator[Key]:
    """The listeners of its pods, its routes, policies attached to it, and what it is the waypoint of."""
    yield from (pods.key_of(pod) for pod in pods.pods(view) if attachments.served(view, item, pod))
    yield from map(key_of, attachments.routes_of(view, item))
    own = item.metadata
    for one in view.store.each(ListenerSet, attachments.ADDED_TO, own.namespace, own.name):
        yield from map(key_of, attachments.routes_of(view, one))
    yield from view.store.find("attached", own.namespace, "Gateway", own.name)
    yield from waypoint.users(view, own.namespace, own.name)


def of_listener_set(view: View, item: ListenerSet) -> Iterator[Key]:
    yield from map(key_of, attachments.routes_of(view, item))
    if gateway := attachments.gateway_of(view, item):
        yield from of_gateway(view, gateway)


def of_class(view: View, item: GatewayClass) -> Iterator[Key]:
    """All of its Gateways."""
    yield from pods.keys(view)
    yield from view.store.find("attached", ROOT_NAMESPACE, "GatewayClass", item.metadata.name)
    for gateway in view.store.each(KubernetesGateway, *attachments.GATEWAYS):
        if gateway.spec.gateway_class_name == item.metadata.name:
            yield key_of(gateway)
            yield from map(key_of, attachments.routes_of(view, gateway))
            yield from waypoint.users(view, gateway.metadata.namespace, gateway.metadata.name)
