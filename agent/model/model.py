"""The mesh as one value, and `apply`, the only function that makes the next one."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.model.draft import Draft
from agent.model.mesh import ROOT_NAMESPACE, Context, Mesh, enrolled
from agent.model.objects import Key, Object, Pod
from agent.model.resources import Delta, Resource
from agent.model.services import translate_service
from agent.model.store import Store
from agent.model.workloads import NETWORK, translate_pod

Change = tuple[Key, Object | None]  # None: the object is gone
Resources = Mapping[str, Mapping[Key, Resource]]  # by namespace, then by the object that each comes from


class Model(Struct, frozen=True):
    """Everything that the agent knows of the mesh at one moment, and what it makes of it.

    digest: the sum of the resources' versions, modulo 2**64; equal configuration, equal digest.
    """

    mesh: Mesh = Mesh()
    store: Store = Store()
    resources: Resources = {}
    digest: int = 0

    @property
    def version(self) -> str:
        """The configuration's version, 16 hexadecimal digits."""
        return f"{self.digest:016x}"

    @property
    def network(self) -> str:
        """The network of all that names none: the root namespace's label, else the setting."""
        root = self.store.scope(ROOT_NAMESPACE).namespace
        return root.metadata.labels.get(NETWORK, self.mesh.network) if root else self.mesh.network


def apply(model: Model, changes: Iterable[Change]) -> tuple[Model, Delta]:
    """The tour of a configuration update: objects change, and the tunnels hear of what is different.

    Only what a change concerns is translated again; the result is that of translating everything.
    """
    draft = Draft(model.store)
    concerned = {key for change in changes for key in draft.put(*change)}
    model = replace(model, store=draft.store())

    translated = {key: translate(model, key) for key in sorted(concerned, key=_services_first)}
    former = {key: model.resources.get(key.namespace, {}).get(key) for key in translated}
    different = {key: resource for key, resource in translated.items() if resource != former[key]}

    changed = tuple(resource for resource in different.values() if resource)
    replaced = {key: old for key in different if (old := former[key])}
    removed = tuple((old.type_url, old.name) for key, old in replaced.items() if different[key] is None)
    digest = (model.digest + _sum(changed) - _sum(replaced.values())) % 2**64
    resources = _updated(model.resources, different)
    return replace(model, resources=resources, digest=digest), Delta(changed, removed)


def translate(model: Model, key: Key) -> Resource | None:
    """The resource that a pod or Service has as things stand; None when it has none, or is not there."""
    scope = model.store.scope(key.namespace)
    context = Context(model.mesh, scope.namespace, model.network)
    if key.kind == "Service":
        service = scope.services.get(key.name)
        return translate_service(service, context) if service else None
    pod = scope.pods.get(key.name)
    if pod is None:
        return None
    return translate_pod(pod, context, model.store.nodes.get(pod.spec.node_name), scope.services_of(pod))


def pods_on(model: Model, node: str) -> Iterator[Pod]:
    """All pods of a node."""
    for namespace, name in model.store.on_node.get(node, ()):
        yield model.store.scopes[namespace].pods[name]


def enrolled_on(model: Model, node: str) -> Iterator[Pod]:
    """The pods of a node whose traffic is to be captured."""
    for pod in pods_on(model, node):
        if enrolled(pod, model.store.scopes[pod.metadata.namespace].namespace):
            yield pod


def _updated(resources: Resources, different: Mapping[Key, Resource | None]) -> Resources:
    result = dict(resources)
    written: dict[str, dict[Key, Resource]] = {}
    for key, resource in different.items():
        if key.namespace not in written:
            written[key.namespace] = dict(resources.get(key.namespace, {}))
        if resource:
            written[key.namespace][key] = resource
        else:
            del written[key.namespace][key]
    for namespace, those in written.items():
        if those:
            result[namespace] = those
        else:
            result.pop(namespace, None)
    return result


def _sum(resources: Iterable[Resource]) -> int:
    return sum(int(resource.version, 16) for resource in resources)


def _services_first(key: Key) -> tuple[bool, Key]:
    return key.kind != "Service", key
