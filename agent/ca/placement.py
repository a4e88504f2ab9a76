"""Which pods run on which node, and which of them are in the mesh."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from agent.model.mesh import MODE, enrolled, is_gateway
from agent.model.schema.kubernetes import Namespace, Pod
from agent.model.schema.objects import Key, Metadata, Object

Change: TypeAlias = tuple[Key, Object | None]  # None: the object is gone
_AMBIENT = Namespace(Metadata(name="any", labels={MODE: "ambient"}))


class Located(NamedTuple):
    """What is known of a pod.

    alone, inside: whether it is in the mesh where its namespace is not, and where it is.
    """

    uid: str
    node: str
    service_account: str
    alone: bool
    inside: bool
    gateway: bool = False


class _Place(NamedTuple):
    node: str
    namespace: str
    service_account: str


class Placement:
    """Pods by node, as far as the authority needs them: from their being scheduled until they have ended.

    A pod that is being deleted counts until its object is gone: its connections go on meanwhile. What a node
    can write by itself counts for nothing: the objects of its static pods, and annotations, which a kubelet
    may change along with a pod's status, such as the one by which istio-cni marks the pods it has captured.
    """

    def __init__(self) -> None:
        self._pods: dict[Key, Located] = {}
        self._places: defaultdict[_Place, set[Key]] = defaultdict(set)
        self._ambient: set[str] = set()  # namespaces that are in the mesh
        self.namespaces: set[str] = set()  # all that are not about to go

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over objects that changed."""
        for key, item in changes:
            if key.kind == "Pod":
                self._forget(key)
                if isinstance(item, Pod) and item.spec.node_name and item.has_account and not item.ended:
                    self._learn(key, item)
            elif key.kind == "Namespace":
                stays = item is not None and item.metadata.deletion_timestamp is None
                labels = item.metadata.labels if item else {}
                _mark(self._ambient, key.name, labels.get(MODE) == "ambient")
                _mark(self.namespaces, key.name, stays)

    def pod(self, namespace: str, name: str) -> Located | None:
        """The pod of that name, while it runs."""
        return self._pods.get(Key("Pod", namespace, name))

    def runs(self, node: str, namespace: str, service_account: str) -> bool:
        """Whether a pod of this service account that is in the mesh runs on the node."""
        pods = self._places.get(_Place(node, namespace, service_account), ())
        inside = namespace in self._ambient
        return any(self._pods[key].inside if inside else self._pods[key].alone for key in pods)

    def _learn(self, key: Key, pod: Pod) -> None:
        located = Located(
            pod.metadata.uid,
            pod.spec.node_name,
            pod.spec.service_account_name,
            enrolled(pod, None) or is_gateway(pod),
            enrolled(pod, _AMBIENT) or is_gateway(pod),
            is_gateway(pod),
        )
        self._pods[key] = located
        self._places[_place(key, located)].add(key)

    def _forget(self, key: Key) -> None:
        if former := self._pods.pop(key, None):
            place = _place(key, former)
            self._places[place].discard(key)
            if not self._places[place]:
                del self._places[place]


def _mark(names: set[str], name: str, member: bool) -> None:
    (names.add if member else names.discard)(name)


def _place(key: Key, pod: Located) -> _Place:
    return _Place(pod.node, key.namespace, pod.service_account)
