"""The descriptor of a kind: where an API server has it, what is read of it, and all that becomes of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from msgspec import Struct

from agent.model.engine.store import Entry, asks_for
from agent.model.engine.view import View
from agent.model.mesh import Mesh
from agent.model.resources import Resource
from agent.model.schema.istio.policy import Policy
from agent.model.schema.objects import Key, Labels, Object

T = TypeVar("T", bound=Object)
Raw: TypeAlias = Mapping[str, Any]

# API groups with the versions that are accepted. Whichever of Istio's kinds we act on is critical.
CORE = ("", ("v1",))
DISCOVERY = ("discovery.k8s.io", ("v1",))
NETWORKING = ("networking.istio.io", ("v1", "v1beta1", "v1alpha3"))
SECURITY = ("security.istio.io", ("v1", "v1beta1"))
TELEMETRY = ("telemetry.istio.io", ("v1", "v1alpha1"))
WARREN = ("policy.warren.dev", ("v1alpha1",))
GATEWAY = "gateway.networking.k8s.io"  # each kind of it has versions of its own


class Translation(Struct, frozen=True, gc=False):
    """The resources of one object, services first, and what does not work of it; empty: all does."""

    resources: tuple[Resource, ...] = ()
    problem: str = ""


class Reading(NamedTuple):
    """What a refused object still says: its `spec`, and those annotations that count.

    hidden: as what it stays an object of a kind that is no policy.
    """

    spec: Struct
    annotations: Labels = MappingProxyType({})
    hidden: type[Object] | None = None


class Derived(NamedTuple):
    """Resources that are no single object's, but made of several.

    name: stands for a kind in their keys. always: keys that are translated even if no object names them.
    """

    name: str
    translate: Callable[[View, Key], Iterable[Resource]]
    always: tuple[Key, ...] = ()


def _nothing(*_: Any) -> tuple[()]:
    return ()


def _makes_nothing(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    return False


@dataclass(frozen=True)
class Descriptor(Generic[T]):
    """One kind.

    name: in keys, that of its struct; kind: as its objects have it, where another group has one of that name.
    group: empty for Kubernetes' core; versions: all that are accepted, the preferred one first, with the same
    fields in each; struct: None if this version of ours does not act on it. critical: without its objects
    something would be let in, let out or sent in the clear that they forbid: first all of them are read.
    endpoints: its objects are endpoints of services, and are translated after these.

    index: under what the store finds an object, beside its kind and namespace.
    dependants: what is translated again when an object is added, removed or changed. Asked with the view
    before the change and the one after it. Objects whose index has `depends_on` with the object's key are
    translated again without being named here.
    translate: the resources of an object, services first. problems: what its author should know.
    may_make: whether an object that cannot be read may have made the resource of a type URL and name.
    strictest: what is in force of a refused object's `spec`, for kinds that close something, or by which
    others find whom they are for (`agent.model.engine.refusal`); None: nothing is. Takes the spec, whether
    nothing unknown stands beside it, and the annotations as written.
    asks: names of labels of workloads that the tunnels have to know for it.
    derived: what is made of several objects of this kind.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    plural: str
    struct: type[T] | None = None
    namespaced: bool = True
    critical: bool = False
    endpoints: bool = False
    index: Callable[[T], Iterable[Entry]] = _nothing
    dependants: Callable[[View, T], Iterable[Key]] = _nothing
    translate: Callable[[View, T], Iterable[Resource]] = _nothing
    problems: Callable[[View, T], Iterable[str]] = _nothing
    may_make: Callable[[Mesh, Key, str, str], bool] = _makes_nothing
    strictest: Callable[[Raw, bool, Any], Reading] | None = None
    asks: Callable[[T], Iterable[str]] = _nothing
    derived: tuple[Derived, ...] = ()
    kind: str = ""

    @property
    def written(self) -> str:
        """What stands in an object's `kind`."""
        return self.kind or self.name

    @property
    def api_versions(self) -> list[str]:
        """What may stand in `apiVersion`, the preferred one first."""
        return [f"{self.group}/{version}" if self.group else version for version in self.versions]

    def entries(self, item: T) -> set[Entry]:
        """All under which the store finds an object."""
        own = (self.name, item.metadata.namespace)
        entries: set[Entry] = {own, *self.index(item), *map(asks_for, self.asks(item))}
        if self.strictest and isinstance(item, Policy) and item.refusal:
            entries.add(("refused",))
        return entries

    def translation(self, view: View, item: T) -> Translation:
        """What an object becomes as things stand."""
        return Translation(tuple(self.translate(view, item)), "; ".join(self.problems(view, item)))


Kind: TypeAlias = Descriptor[Any]
