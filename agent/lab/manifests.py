"""Manifests as people write them: YAML files and folders in, checked objects with their place out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from agent.errors import SettingsError
from agent.model.kinds import KINDS
from agent.model.schema.kubernetes import Container, PodSpec
from agent.model.schema.objects import Key, Name
from agent.sources import documents, whole
from agent.sources.documents import Problem, Refused
from agent.sources.manifests import kind_of

TEMPLATED = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
DATA = frozenset({"Secret", "ConfigMap"})  # of gateways
SUPPORTED = TEMPLATED | DATA | KINDS.keys() - {"Node"}  # the lab's nodes are its own
_SUFFIXES = (".yaml", ".yml", ".json")
_Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Manifest:
    """One object as written, with `namespace` filled in and empty fields (null) left out.

    `where` is file:line.
    """

    key: Key
    body: dict[str, Any]
    where: str

    def within(self, namespace: str) -> "Manifest":
        """The same object, elsewhere."""
        metadata = {**self.body["metadata"], "namespace": namespace}
        key = self.key._replace(namespace=namespace)
        return Manifest(key, {**self.body, "metadata": metadata}, self.where)


class _TemplateMeta(Struct, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Meta(_TemplateMeta, frozen=True, kw_only=True):
    name: Name
    namespace: Name | Literal[""] = ""


class _Variable(Struct, frozen=True):
    name: str
    value: str = ""


class _Container(Container, frozen=True, kw_only=True):
    name: str
    env: tuple[_Variable, ...] = ()


class _PodSpec(PodSpec, frozen=True, kw_only=True):
    """What the lab reads of a pod beside what the agent does."""

    containers: tuple[_Container, ...]
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    hostname: str = ""
    subdomain: str = ""


class _Template(Struct, frozen=True):
    spec: _PodSpec
    metadata: _TemplateMeta = msgspec.field(default_factory=_TemplateMeta)


class _TemplatedSpec(Struct, frozen=True, rename="camel"):
    template: _Template
    replicas: _Count = 1
    parallelism: _Count = 1
    service_name: str = ""


class _Templated(Struct, frozen=True):
    metadata: _Meta
    spec: _TemplatedSpec


class _Data(Struct, frozen=True, rename="camel"):
    metadata: _Meta
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}


class _Pod(Struct, frozen=True):
    metadata: _Meta
    spec: _PodSpec


def read(paths: Iterable[Path]) -> tuple[list[Manifest], dict[str, int]]:
    """The supported objects of all files (folders are searched through), and how many of which other kinds.

    Raises SettingsError with one line, `file:line: what`, for each thing that is wrong.
    """
    found: dict[Key, Manifest] = {}
    others: dict[str, int] = {}
    problems: list[str] = []
    for file in files(paths, problems):
        bad: list[Problem] = []
        for item in documents.items(whole.read(file), bad):
            try:
                manifest = _check(item.value, f"{file}:{item.line()}", others)
                if manifest and (first := found.setdefault(manifest.key, manifest)) is not manifest:
                    raise Refused(f"it is there already, at {first.where}", manifest.key)
            except Refused as refused:
                bad.append(item.problem(refused))
        problems += [f"{file}:{line}: {key or 'document'}: {reason}" for line, key, reason in bad]
    if problems:
        raise SettingsError("\n".join(problems))
    return list(found.values()), others


def files(paths: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    """Those that are named or in a folder that is; appends to `problems` what is not there."""
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
            if not found:
                problems.append(f"{path}: no {', '.join(_SUFFIXES)} file in this folder")
            yield from found
        elif path.exists():
            yield path
        else:
            problems.append(f"{path}: no such file or folder")


def _check(raw: Any, where: str, others: dict[str, int]) -> Manifest | None:
    """The object, if it is of a kind that the lab uses; else it is counted in `others`. Raises Refused."""
    kind_of(raw)  # refuses what is misspelt
    kind = documents.kind_of(raw)
    if kind not in SUPPORTED:
        others[kind] = others.get(kind, 0) + 1
        return None
    key = documents.key_of(kind, raw)
    types: dict[str, Any] = {name: known.struct for name, known in KINDS.items()}
    types |= {"Pod": _Pod, **dict.fromkeys(TEMPLATED, _Templated), **dict.fromkeys(DATA, _Data)}
    documents.convert(raw, types[kind], key)
    if key.namespace:
        raw = {**raw, "metadata": {**raw["metadata"], "namespace": key.namespace}}
    return Manifest(key, raw, where)
