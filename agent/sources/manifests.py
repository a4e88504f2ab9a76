"""Manifests -> objects of the model, each by itself: a bad one is refused by line and field, alone."""

from typing import Any, NamedTuple

from agent.model import kinds
from agent.model.engine.kind import Kind
from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.schema.objects import Key, Object
from agent.sources import documents
from agent.sources.admission import admit_pod
from agent.sources.broken import named
from agent.sources.documents import Problem, Refused


class Manifest(NamedTuple):
    """What one file holds.

    problems: what is refused; refused: what is in force of that, in its strictest reading; strangers: API
    groups and kinds that are not read, each once.
    """

    objects: dict[Key, Object]
    problems: list[Problem]
    refused: dict[Key, Object]
    strangers: set[tuple[str, str]]


def parse(text: bytes) -> Manifest:
    """Read a file of one or several documents; never raises for what is in it."""
    manifest = Manifest({}, [], {}, set())
    not_yaml: list[Problem] = []
    for item in documents.items(text, not_yaml):
        try:
            _take(item.value, manifest)
        except Refused as refused:
            manifest.problems.append(item.problem(refused))
    for problem, document in documents.unread(text) if not_yaml else ():
        manifest.problems.append(problem)
        # What stands there may be anything; but a policy that is named is one that somebody relies on.
        key = named(document)
        if key and _refuse(key, None, problem.reason, manifest):
            manifest.problems.append(problem._replace(key=key))
    return manifest


def is_of_the_mesh(group: str) -> bool:
    """Whether a reader of manifests would expect a mesh to know this API group."""
    return group.endswith(kinds.MESH_GROUPS)


def kind_of(raw: Any) -> Kind | None:
    """The kind of an object; None: a stranger. Raises Refused for one that is misspelt, as kubectl does."""
    version, name = documents.head(raw)
    kind = kinds.find(version, name)
    if kind is None and (meant := kinds.meant(version, name)):
        wrong = "kind" if name != meant.written else "apiVersion"
        nearest = f"apiVersion: {meant.api_versions[0]}, kind: {meant.written}"
        reason = f"there is no kind {name} in {version}; the nearest is {nearest}"
        raise Refused(reason, documents.key_of(meant.name, raw), (wrong,))
    if kind and kind.struct and version not in kind.api_versions:
        reason = f"apiVersion {version} is not read; write {kind.api_versions[0]}"
        raise Refused(reason, documents.key_of(kind.name, raw), ("apiVersion",))
    return kind


def _take(raw: Any, manifest: Manifest) -> None:
    kind = _known(raw, manifest)
    if kind is None or kind.struct is None:
        version, name = documents.head(raw)
        manifest.strangers.add((version.rpartition("/")[0], name))
        return
    key = documents.key_of(kind.name, raw)
    if key in manifest.objects or key in manifest.refused:
        raise Refused("it is in this file twice; the first one is used", key)
    body = {**raw, "metadata": {**raw["metadata"], "namespace": key.namespace}}
    admitted = admit_pod(body) if kind.name == "Pod" else body
    try:
        item = documents.convert(admitted, kind.struct, key)
        documents.check_metadata(raw, key)
    except Refused as refused:
        _refuse(key, raw, str(refused), manifest)
        raise
    manifest.objects[key] = item


def _known(raw: Any, manifest: Manifest) -> Kind | None:
    """Its kind. Of what is misspelt the meant kind's strictest reading is in force. Raises Refused."""
    try:
        return kind_of(raw)
    except Refused as refused:
        if refused.key:
            _refuse(refused.key, raw, str(refused), manifest)
        raise


def _refuse(key: Key, raw: Any, reason: str, manifest: Manifest) -> bool:
    """Whether something is in force of it."""
    kind = KINDS.get(key.kind)
    strict = strictest(kind, key, raw, reason) if kind else None
    if strict is None or key in manifest.objects:
        return False
    manifest.refused.setdefault(key, strict)
    return True
