"""What an object becomes: the resources that the tunnels are told, and what its author should know."""

from collections.abc import Iterator

from msgspec import Struct

from agent.model.authentication import STRICT, own_policy, strict_policy
from agent.model.endpoints import entry_workload, inline_workloads, slice_workloads
from agent.model.entries import ServiceEntry, WorkloadEntry
from agent.model.objects import EndpointSlice, Key, Object, Pod, Service
from agent.model.pods import pod_workload
from agent.model.policies import authorization
from agent.model.problems import problem_of
from agent.model.resources import Resource
from agent.model.security import AuthorizationPolicy, PeerAuthentication
from agent.model.services import services
from agent.model.traffic import KIND, traffic
from agent.model.view import View


class Translation(Struct, frozen=True, gc=False):
    """The resources of one object, services first, and what does not work of it; empty: all does."""

    resources: tuple[Resource, ...] = ()
    problem: str = ""


def translate(view: View, key: Key) -> Translation:
    """As things stand; nothing of an object that is not there."""
    item = view.store.objects.get(key)
    if key == STRICT and view.store.find("PeerAuthentication"):
        return Translation((strict_policy(),))
    if key.kind == KIND:
        return Translation(_if_any(traffic(view, key.namespace)))
    if item is None:
        return NOTHING
    return Translation(tuple(_resources(view, item)), problem_of(view, item))


def _resources(view: View, item: Object) -> Iterator[Resource]:
    match item:
        case Pod():
            yield from _if_any(pod_workload(view, item))
        case Service():
            yield from services(view, item)
        case ServiceEntry():
            yield from services(view, item)
            yield from inline_workloads(view, item)
        case WorkloadEntry():
            yield entry_workload(view, item)
        case EndpointSlice():
            yield from slice_workloads(view, item)
        case AuthorizationPolicy():
            yield authorization(item)
        case PeerAuthentication():
            yield from _if_any(own_policy(view, item))


def _if_any(resource: Resource | None) -> tuple[Resource, ...]:
    return (resource,) if resource else ()


NOTHING = Translation()
