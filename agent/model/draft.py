"""A store in the making: a namespace that is written to is copied once, whatever the number of writes."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from agent.model.mesh import ROOT_NAMESPACE
from agent.model.objects import Key, Namespace, Node, Object, Pod, Service, ServiceAccount
from agent.model.store import PodKey, Scope, Store, label_set

T = TypeVar("T")
K = TypeVar("K")
M = TypeVar("M")


class _Sets(Generic[K, M]):
    """Sets by key, none of them empty. Those that are written to are copied once."""

    def __init__(self, base: Mapping[K, frozenset[M]]) -> None:
        self._base = dict(base)
        self._open: dict[K, set[M]] = {}

    def get(self, key: K) -> AbstractSet[M]:
        return self._open.get(key) or self._base.get(key, frozenset())

    def add(self, key: K, member: M) -> None:
        self._opened(key).add(member)

    def discard(self, key: K, member: M) -> None:
        opened = self._opened(key)
        opened.discard(member)
        if not opened:
            del self._open[key]
            self._base.pop(key, None)

    def closed(self) -> dict[K, frozenset[M]]:
        return self._base | {key: frozenset(members) for key, members in self._open.items()}

    def _opened(self, key: K) -> set[M]:
        if key not in self._open:
            self._open[key] = set(self._base.get(key, ()))
        return self._open[key]


class _OpenScope:
    """A scope that can be written to."""

    def __init__(self, base: Scope) -> None:
        self.namespace = base.namespace
        self.pods = dict(base.pods)
        self.services = dict(base.services)
        self.accounts = dict(base.accounts)
        self.alike = _Sets(base.alike)
        self.selecting = dict(base.selecting)

    def closed(self) -> Scope:
        alike = self.alike.closed()
        return Scope(self.namespace, self.pods, self.services, self.accounts, alike, self.selecting)

    def selected(self, service: str) -> set[str]:
        """Names of the pods that a Service selects."""
        fitting = (labels for labels, services in self.selecting.items() if service in services)
        return {pod for labels in fitting for pod in self.alike.get(labels)}

    def move_pod(self, name: str, before: Pod | None, after: Pod | None) -> None:
        """Keep the indexes right when a pod comes, goes or changes."""
        old = label_set(before.metadata.labels) if before else None
        new = label_set(after.metadata.labels) if after else None
        if old == new:
            return
        if old is not None:
            self.alike.discard(old, name)
            if not self.alike.get(old):
                del self.selecting[old]
        if new is not None and after:
            self.alike.add(new, name)
            if new not in self.selecting:
                labels = after.metadata.labels
                fitting = (service for service, item in self.services.items() if item.selects(labels))
                self.selecting[new] = frozenset(fitting)

    def reselect(self, name: str, service: Service | None) -> None:
        """Keep the indexes right when a Service comes, goes or changes."""
        for labels, services in self.selecting.items():
            selected = service is not None and service.selects(dict(labels))
            if selected != (name in services):
                self.selecting[labels] = services ^ {name}


class Draft:
    """`put` what changed, then take the `store()`."""

    def __init__(self, base: Store) -> None:
        self._nodes = dict(base.nodes)
        self._scopes = dict(base.scopes)
        self._on_node: _Sets[str, PodKey] = _Sets(base.on_node)
        self._open: dict[str, _OpenScope] = {}

    def store(self) -> Store:
        """What the draft has become."""
        for name, scope in self._open.items():
            closed = scope.closed()
            _place(self._scopes, name, closed if closed != Scope() else None)
        return Store(self._nodes, self._scopes, self._on_node.closed())

    def put(self, key: Key, item: Object | None) -> Iterable[Key]:
        """Set or (None) remove an object; gives the pods and Services whose translation that concerns."""
        match key.kind:
            case "Node":
                return self._put_node(key.name, _as(Node, item))
            case "Namespace":
                return self._put_namespace(key.name, _as(Namespace, item))
            case "Pod":
                return self._put_pod(key, _as(Pod, item))
            case "Service":
                return self._put_service(key, _as(Service, item))
            case _:
                _place(self._scope(key.namespace).accounts, key.name, _as(ServiceAccount, item))
                return ()

    def _put_node(self, name: str, node: Node | None) -> Iterable[Key]:
        _place(self._nodes, name, node)
        return [Key("Pod", *pod) for pod in self._on_node.get(name)]

    def _put_namespace(self, name: str, namespace: Namespace | None) -> Iterable[Key]:
        self._scope(name).namespace = namespace
        # The root namespace's labels speak for the whole mesh.
        concerned = {*self._scopes, *self._open} if name == ROOT_NAMESPACE else {name}
        return [key for scope in concerned for key in self._inhabitants(scope)]

    def _put_pod(self, key: Key, pod: Pod | None) -> Iterable[Key]:
        scope = self._scope(key.namespace)
        before = scope.pods.get(key.name)
        _place(scope.pods, key.name, pod)
        scope.move_pod(key.name, before, pod)
        self._move_to_node((key.namespace, key.name), before, pod)
        return (key,)

    def _put_service(self, key: Key, service: Service | None) -> Iterable[Key]:
        scope = self._scope(key.namespace)
        concerned = scope.selected(key.name)
        _place(scope.services, key.name, service)
        scope.reselect(key.name, service)
        concerned |= scope.selected(key.name)
        return [key, *(Key("Pod", key.namespace, pod) for pod in concerned)]

    def _move_to_node(self, pod: PodKey, before: Pod | None, after: Pod | None) -> None:
        old = before.spec.node_name if before else ""
        new = after.spec.node_name if after else ""
        if old == new:
            return
        if old:
            self._on_node.discard(old, pod)
        if new:
            self._on_node.add(new, pod)

    def _inhabitants(self, namespace: str) -> Iterator[Key]:
        scope = self._open.get(namespace) or self._scopes[namespace]
        for service in scope.services:
            yield Key("Service", namespace, service)
        for pod in scope.pods:
            yield Key("Pod", namespace, pod)

    def _scope(self, namespace: str) -> _OpenScope:
        if namespace not in self._open:
            self._open[namespace] = _OpenScope(self._scopes.get(namespace, Scope()))
        return self._open[namespace]


def _place(shelf: MutableMapping[K, T], name: K, item: T | None) -> None:
    if item is None:
        shelf.pop(name, None)
    else:
        shelf[name] = item


def _as(kind: type[T], item: Object | None) -> T | None:
    assert item is None or isinstance(item, kind)
    return item
