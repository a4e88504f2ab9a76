"""Which Sidecar says what may leave the mesh: one that selects the workload, else its namespace's."""

from collections.abc import Iterator

from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.schema.istio.sidecar import OutboundTrafficPolicy, Sidecar
from agent.model.schema.objects import Key, Labels, fits, key_of
from protocols import mesh_pb2

_MODES = {"ALLOW_ANY": mesh_pb2.ALLOW_ANY, "REGISTRY_ONLY": mesh_pb2.REGISTRY_ONLY}


def entries(item: Sidecar) -> Iterator[Entry]:
    """By which they are found."""
    namespace = item.metadata.namespace
    if item.selector:
        yield ("Sidecar of some", namespace, *min(item.selector.items()))
    else:
        yield "unselective", "Sidecar", namespace


def counting(view: View, namespace: str) -> Sidecar | None:
    """The one that counts for the workloads of a namespace that none selects; of the root's, for the mesh."""
    return min(view.store.each(Sidecar, "unselective", "Sidecar", namespace), key=_rank, default=None)


def mode(view: View, item: Sidecar | None) -> OutboundTrafficPolicy:
    """What it says; what it leaves open the mesh's setting does, whatever the root's Sidecar says."""
    outbound = item.spec.outbound_traffic_policy if item else None
    return outbound.mode if outbound else view.mesh.outbound_traffic_policy


def of_workload(view: View, namespace: str, labels: Labels) -> mesh_pb2.OutboundTrafficPolicy:
    """What a Sidecar says that selects it; UNSPECIFIED: none does."""
    those = view.store.labelled("Sidecar of some", namespace, labels)
    selecting = (item for item in those if isinstance(item, Sidecar) and fits(item.selector, labels))
    item = min(selecting, key=_rank, default=None)
    return _MODES[mode(view, item)] if item else mesh_pb2.UNSPECIFIED


def _rank(item: Sidecar) -> tuple[bool, str, Key]:
    """The oldest counts; where that cannot be told, the first by name."""
    return not item.strictest, item.metadata.creation_timestamp, key_of(item)
