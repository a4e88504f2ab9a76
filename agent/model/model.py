"""The mesh as one value, and `apply`, the only function that makes the next one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from immutables import Map
from msgspec import Struct

from agent.model.engine.invalidation import invalidated
from agent.model.engine.kind import Translation
from agent.model.engine.store import Store, depends_on
from agent.model.engine.view import View
from agent.model.kinds import DERIVED, ENDPOINTS, KINDS
from agent.model.mesh import Mesh, enrolled, is_ours
from agent.model.resources import Delta, Resource
from agent.model.schema.gateway.base import Route
from agent.model.schema.istio.service_entry import HostAddress, ServiceEntry
from agent.model.schema.kubernetes import Namespace, Pod
from agent.model.schema.objects import Key, Object
from agent.model.translation import allotment
from agent.model.translation.gateways import status as gateways
from agent.model.translation.routes import status
from agent.model.translation.routes.status import ParentStatus

T = TypeVar("T")

Change = tuple[Key, Object | None]  # None: the object is gone
_NOTHING = Translation()
_ALWAYS = [key for derived in DERIVED.values() for key in derived.always]


class Model(Struct, frozen=True):
    """Everything that the agent knows of the mesh at one moment, and what it makes of it.

    resources: by the object that they come from; problems: of objects in force, what of them does not work;
    digest: the sum of the resources' versions, modulo 2**64: equal configuration, equal digest.
    """

    mesh: Mesh = Mesh()
    store: Store = Store()
    resources: Map[Key, tuple[Resource, ...]] = Map()
    problems: Map[Key, str] = Map()
    digest: int = 0

    @property
    def version(self) -> str:
        """The configuration's version, 16 hexadecimal digits."""
        return f"{self.digest:016x}"


def apply(model: Model, changes: Iterable[Change]) -> tuple[Model, Delta]:
    """The tour of a configuration update: objects change, and the tunnels hear of what is different.

    Only what a change concerns is translated again; the result is that of translating everything.
    """
    view = View.of(model.mesh, model.store)
    concerned: dict[Key, None] = dict.fromkeys(_ALWAYS)
    for key, told in sorted(changes, key=lambda change: _is_endpoint(change[0])):
        item = told if told is not None and is_ours(model.mesh, told) else None
        kind = KINDS[key.kind]
        store = view.store.put(key, item, kind.entries)
        before, view = view, view.with_endpoints(store) if kind.endpoints else view.with_others(store)
        concerned |= dict.fromkeys(invalidated(kind, before, view, key))

    translated = {key: _translation(view, key) for key in sorted(concerned, key=_is_endpoint)}
    old = {one.id: one for key in translated for one in model.resources.get(key, ())}
    new = {one.id: one for translation in translated.values() for one in translation.resources}
    changed = tuple(one for name, one in new.items() if one != old.get(name))
    removed = tuple(name for name in old if name not in new)

    after = Model(
        model.mesh,
        view.store,
        _updated(model.resources, {key: one.resources for key, one in translated.items()}),
        _updated(model.problems, {key: one.problem for key, one in translated.items()}),
        (model.digest + _sum(new.values()) - _sum(old.values())) % 2**64,
    )
    return after, Delta(changed, removed)


def parents(model: Model, key: Key) -> list[ParentStatus]:
    """What a route of the Gateway API is for each of its parents that is a service."""
    item = model.store.objects.get(key)
    return status.parents(View.of(model.mesh, model.store), item) if isinstance(item, Route) else []


def gateway_statuses(model: Model) -> dict[Key, gateways.Status]:
    """What the Gateway API's classes, Gateways and ListenerSets that are ours have to say."""
    return gateways.statuses(View.of(model.mesh, model.store))


def allotted(model: Model, key: Key) -> tuple[HostAddress, ...]:
    """The addresses that a ServiceEntry's hostnames get, and its status does not say yet."""
    item = model.store.objects.get(key)
    if not isinstance(item, ServiceEntry):
        return ()
    return allotment.missing(View.of(model.mesh, model.store), item)


def pods_on(model: Model, node: str) -> Iterator[Pod]:
    """All pods of a node."""
    return model.store.each(Pod, *depends_on(Key("Node", "", node)))


def enrolled_on(model: Model, node: str) -> Iterator[Pod]:
    """The pods of a node whose traffic is to be captured."""
    for pod in pods_on(model, node):
        if enrolled(pod, model.store.get(Namespace, "", pod.metadata.namespace)):
            yield pod


def _translation(view: View, key: Key) -> Translation:
    """As things stand; nothing of an object that is not there."""
    if derived := DERIVED.get(key.kind):
        return Translation(tuple(derived.translate(view, key)))
    item = view.store.objects.get(key)
    return KINDS[key.kind].translation(view, item) if item else _NOTHING


def _updated(known: Map[Key, T], now: Mapping[Key, T]) -> Map[Key, T]:
    """With these in the place of what was there; nothing is kept of what is empty now."""
    result = known.mutate()
    for key, value in now.items():
        if value:
            result[key] = value
        else:
            result.pop(key, None)
    return result.finish()


def _sum(resources: Iterable[Resource]) -> int:
    return sum(int(resource.version, 16) for resource in resources)


def _is_endpoint(key: Key) -> bool:
    """Services come before these: added before they are referred to, with nothing to search for."""
    return key.kind in ENDPOINTS
