"""Manifests -> objects of the model, each by itself: a bad one is refused by line and field, alone."""

from typing import Any, NamedTuple

from agent.model import kinds
from agent.model.objects import Key, Object
from agent.sources import documents
from agent.sources.admission import admit_pod
from agent.sources.documents import Problem, Refused

_MESH_GROUPS = ("istio.io", "gateway.networking.k8s.io")


class Manifest(NamedTuple):
    """What one file holds.

    strangers: API groups and kinds that are not read, each once.
    """

    objects: dict[Key, Object]
    problems: list[Problem]
    strangers: set[tuple[str, str]]


def parse(text: bytes) -> Manifest:
    """Read a file of one or several documents; never raises for what is in it."""
    manifest = Manifest({}, [], set())
    for item in documents.items(text, manifest.problems):
        try:
            _take(item.value, manifest)
        except Refused as refused:
            manifest.problems.append(item.problem(refused))
    return manifest


def is_of_the_mesh(group: str) -> bool:
    """Whether a reader of manifests would expect a mesh to know this API group."""
    return group.endswith(_MESH_GROUPS)


def _take(raw: Any, manifest: Manifest) -> None:
    version, name = documents.head(raw)
    kind = kinds.find(version, name)
    if kind is None or kind.type is None:
        manifest.strangers.add((version.rpartition("/")[0], name))
        return
    key = documents.key_of(name, raw)
    if version not in kind.api_versions:
        raise Refused(f"apiVersion {version} is not read; write {kind.api_versions[0]}", key, ("apiVersion",))
    if key in manifest.objects:
        raise Refused("it is in this file twice; the first one is used", key)
    body = {**raw, "metadata": {**raw["metadata"], "namespace": key.namespace}}
    admitted = admit_pod(body) if name == "Pod" else body
    item = documents.convert(admitted, kind.type, key)
    documents.check_metadata(raw, key)
    manifest.objects[key] = item
