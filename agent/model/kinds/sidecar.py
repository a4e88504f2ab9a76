"""Sidecar -> `warren.mesh.Traffic`: whether connections may leave the mesh for where it knows nothing.

One that selects workloads is told with these.
"""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from agent.model.engine.kind import NETWORKING, Derived, Descriptor, Raw, Reading
from agent.model.engine.reading import part
from agent.model.engine.view import View
from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.resources import TRAFFIC, Resource, traffic_resource
from agent.model.schema.istio.sidecar import Outbound, Sidecar, SidecarSpec
from agent.model.schema.objects import Key, key_of
from agent.model.translation.egress import counting, entries, mode

_TRAFFIC = "Traffic"  # one for each namespace, and one for the mesh
_OF_THE_MESH = Key(_TRAFFIC, "", "")


def _traffic(view: View, key: Key) -> Iterator[Resource]:
    """What a namespace says of its own, or (empty) what holds for the mesh, as far as it has to be told."""
    namespace = key.namespace
    item = counting(view, namespace or ROOT_NAMESPACE)
    outbound = mode(view, item)
    # A namespace's Sidecar without a policy stands for itself as well: what the root's says is not inherited.
    if item if namespace else outbound != "ALLOW_ANY":
        yield traffic_resource(namespace, outbound)


def _problems(view: View, item: Sidecar) -> Iterator[str]:
    for field in item.not_acted_on:
        yield f"{field} is not enforced, this version acts on outboundTrafficPolicy.mode alone"
    current = None if item.selector else counting(view, item.metadata.namespace)
    if current and current is not item:
        yield f"ignored: {key_of(current)} takes precedence (oldest wins, ties by name)"


def _dependants(view: View, item: Sidecar) -> Iterator[Key]:
    namespace = item.metadata.namespace
    if item.selector:
        yield from map(key_of, view.selected(namespace, item.selector))
        return
    yield _OF_THE_MESH if namespace == ROOT_NAMESPACE else Key(_TRAFFIC, namespace, "")
    yield from view.store.find("unselective", "Sidecar", namespace)


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    whom = part(spec, ("workloadSelector",), SidecarSpec) or SidecarSpec()
    return Reading(replace(whom, outbound_traffic_policy=Outbound("REGISTRY_ONLY")))


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    return type_url == TRAFFIC and key.namespace == (name or ROOT_NAMESPACE)


KIND = Descriptor(
    "Sidecar",
    *NETWORKING,
    "sidecars",
    Sidecar,
    critical=True,
    index=entries,
    dependants=_dependants,
    problems=_problems,
    may_make=_may_make,
    strictest=_strictest,
    derived=(Derived(_TRAFFIC, _traffic, always=(_OF_THE_MESH,)),),
)
