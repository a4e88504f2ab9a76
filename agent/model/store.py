"""The objects by namespace, with the indexes that say which others one of them concerns. Never changed."""

from collections.abc import Mapping

from msgspec import Struct

from agent.model.objects import Labels, Namespace, Node, Pod, Service, ServiceAccount

LabelSet = frozenset[tuple[str, str]]
PodKey = tuple[str, str]  # namespace, name


class Scope(Struct, frozen=True):
    """One namespace and what lies in it, by name.

    alike: pods with the same labels, of which a selector takes all or none.
    selecting: for each label set in `alike`, the Services whose selector it fits.
    """

    namespace: Namespace | None = None
    pods: Mapping[str, Pod] = {}
    services: Mapping[str, Service] = {}
    accounts: Mapping[str, ServiceAccount] = {}
    alike: Mapping[LabelSet, frozenset[str]] = {}
    selecting: Mapping[LabelSet, frozenset[str]] = {}

    def services_of(self, pod: Pod) -> list[Service]:
        """The Services that select a pod of this scope."""
        return [self.services[name] for name in self.selecting[label_set(pod.metadata.labels)]]


class Store(Struct, frozen=True):
    """All objects. `on_node` has the pods of each node."""

    nodes: Mapping[str, Node] = {}
    scopes: Mapping[str, Scope] = {}
    on_node: Mapping[str, frozenset[PodKey]] = {}

    def scope(self, namespace: str) -> Scope:
        """What lies in a namespace; an empty scope when nothing does."""
        return self.scopes.get(namespace, EMPTY)


EMPTY = Scope()


def label_set(labels: Labels) -> LabelSet:
    """Labels as the key of an index."""
    return frozenset(labels.items())
