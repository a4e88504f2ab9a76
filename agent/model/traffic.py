"""Sidecar -> `warren.mesh.Traffic`: whether connections may leave the mesh for where it knows nothing."""

from collections.abc import Iterator

from agent.model.mesh import ROOT_NAMESPACE
from agent.model.objects import Key, key_of
from agent.model.resources import Resource, traffic_resource
from agent.model.sidecar import Sidecar
from agent.model.view import View

KIND = "Traffic"  # nobody's objects: one for each namespace, and one for the mesh
OF_THE_MESH = Key(KIND, "", "")


def traffic(view: View, namespace: str) -> Resource | None:
    """What a namespace says of its own, or (empty) what holds for the mesh; None: nothing has to be told."""
    counting = _counting(view, namespace or ROOT_NAMESPACE)
    outbound = counting.spec.outbound_traffic_policy if counting else None
    mode = outbound.mode if outbound else view.mesh.outbound_traffic_policy
    if namespace:  # one without a policy stands for itself as well: what the root's says is not inherited
        return traffic_resource(namespace, mode) if counting else None
    return traffic_resource("", mode) if mode != "ALLOW_ANY" else None


def problems(view: View, item: Sidecar) -> Iterator[str]:
    """What its author should know."""
    for field in item.not_acted_on:
        yield f"{field} is not enforced, this version acts on outboundTrafficPolicy.mode alone"
    if item.selector:
        yield "workloadSelector: not enforced for some workloads alone, what holds for the namespace does"
        return
    counting = _counting(view, item.metadata.namespace)
    if counting and counting is not item:
        yield f"ignored: {key_of(counting)} takes precedence (oldest wins, ties by name)"


def of_namespace(view: View, namespace: str) -> Iterator[Key]:
    """What is looked at anew when a Sidecar of a namespace is different."""
    yield OF_THE_MESH if namespace == ROOT_NAMESPACE else Key(KIND, namespace, "")
    yield from view.store.find("unselective", "Sidecar", namespace)


def _counting(view: View, namespace: str) -> Sidecar | None:
    """The one that counts for all workloads of a namespace, or (the root's) of the mesh."""
    those = view.store.each(Sidecar, "unselective", "Sidecar", namespace)
    return min(those, key=_rank, default=None)


def _rank(item: Sidecar) -> tuple[bool, str, Key]:
    return not item.strictest, item.metadata.creation_timestamp, key_of(item)
