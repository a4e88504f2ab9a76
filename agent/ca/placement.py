"""Which identities run on which node."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from agent.model.objects import Key, Object, Pod

Change: TypeAlias = tuple[Key, Object | None]  # None: the object is gone


class _Place(NamedTuple):
    node: str
    namespace: str
    service_account: str


class Placement:
    """Pods by node, as far as the authority needs them: from their being scheduled until they have ended."""

    def __init__(self) -> None:
        self._of_pod: dict[Key, _Place] = {}
        self._pods: Counter[_Place] = Counter()

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over objects that changed."""
        for key, item in changes:
            if key.kind != "Pod":
                continue
            if former := self._of_pod.pop(key, None):
                self._pods[former] -= 1
                if not self._pods[former]:
                    del self._pods[former]
            if isinstance(item, Pod) and item.spec.node_name and not item.ended:
                place = _Place(
                    item.spec.node_name, key.namespace, item.spec.service_account_name or "default"
                )
                self._of_pod[key] = place
                self._pods[place] += 1

    def runs(self, node: str, namespace: str, service_account: str) -> bool:
        """Whether a pod of this service account runs on the node."""
        return _Place(node, namespace, service_account) in self._pods
