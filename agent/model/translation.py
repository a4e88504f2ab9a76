"""What an object becomes: the resources that the tunnels are told, and what its author should know."""

from collections.abc import Iterable
from typing import NamedTuple

from agent.model.endpoints import entry_workload, inline_workloads, slice_workloads
from agent.model.entries import ServiceEntry, WorkloadEntry
from agent.model.objects import EndpointSlice, Key, Object, Pod, Service
from agent.model.pods import pod_workload
from agent.model.problems import problem_of
from agent.model.resources import Resource
from agent.model.services import services
from agent.model.view import View


class Translation(NamedTuple):
    """The resources of one object, services first, and what does not work of it; empty: all does."""

    resources: tuple[Resource, ...] = ()
    problem: str = ""


def translate(view: View, key: Key) -> Translation:
    """As things stand; nothing of an object that is not there."""
    item = view.store.objects.get(key)
    if item is None:
        return NOTHING
    return Translation(tuple(_resources(view, item)), problem_of(view, item))


def _resources(view: View, item: Object) -> Iterable[Resource]:
    match item:
        case Pod():
            workload = pod_workload(view, item)
            return (workload,) if workload else ()
        case Service():
            return services(view, item)
        case ServiceEntry():
            return (*services(view, item), *inline_workloads(view, item))
        case WorkloadEntry():
            return (entry_workload(view, item),)
        case EndpointSlice():
            return slice_workloads(view, item)
        case _:
            return ()


NOTHING = Translation()
