"""Istio's Gateway -> its part of what the pods of gateways listen on."""

from collections.abc import Iterator

from agent.model.engine.kind import NETWORKING, Derived, Descriptor
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.schema.istio.gateway import Gateway
from agent.model.schema.objects import Key
from agent.model.translation.gateways import istio, listeners, pods
from agent.model.translation.gateways.problems import of_gateway
from agent.model.translation.routes.bound import BOUND_TO


def _index(item: Gateway) -> Iterator[Entry]:
    yield istio.SELECTS


def _dependants(view: View, item: Gateway) -> Iterator[Key]:
    """The listeners of its pods, and the problems of what is bound to it."""
    for pod in pods.pods(view):
        if istio.serves(item, pod.metadata.labels):
            yield pods.key_of(pod)
    yield from view.store.find(BOUND_TO, item.metadata.namespace, item.metadata.name)


KIND = Descriptor(
    "Gateway",
    *NETWORKING,
    "gateways",
    Gateway,
    index=_index,
    dependants=_dependants,
    problems=of_gateway,
    derived=(Derived(pods.LISTENERS, listeners.translate),),
)
