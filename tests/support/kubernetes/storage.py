"""Objects, each once and as JSON, and their history for watches; one revision for all, as in etcd."""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.support.kubernetes.errors import Refused
from tests.support.kubernetes.kinds import Kind

KEPT = 100_000  # changes of a resource; as many as Kubernetes' own watch cache may grow to
_LARGEST = 3 << 19  # bytes of an object

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A version of an object. `body` is its JSON without kind and apiVersion, which depend on the path."""

    key: str
    revision: int
    body: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]

    def object(self) -> Object:
        decoded: Object = msgspec.json.decode(self.body)
        return decoded

    def as_of(self, revision: int) -> bytes:
        """The body with another resourceVersion: what a watch shows of an object that is gone."""
        old, new = (b'"resourceVersion":"%d"' % number for number in (self.revision, revision))
        return self.body.replace(old, new, 1)


@dataclass(frozen=True, slots=True)
class Change:
    """From `before` (None: created) to `after` (None: deleted)."""

    revision: int
    before: Record | None
    after: Record | None


def key_of(namespace: str, name: str) -> str:
    """Keys sort as etcd's do: by namespace and name, joined by slashes."""
    return f"/{namespace}/{name}" if namespace else f"/{name}"


def span(keys: Sequence[str], namespace: str) -> tuple[int, int]:
    """Where the keys of a namespace, or all of them, begin and end in sorted ones."""
    prefix = key_of(namespace, "")
    return bisect_left(keys, prefix), bisect_left(keys, prefix[:-1] + "0")  # "0" is what follows "/"


def field_of(obj: Object, path: str) -> str:
    """A field as field selectors see it; empty when it is not set."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or (value is None and path in _FLAGS):
        return str(bool(value)).lower()
    return "" if value is None else str(value)


_FLAGS = ("spec.hostNetwork", "spec.unschedulable")  # false where they are not set


class Resource:
    """All objects of one resource."""

    def __init__(self, start: int) -> None:
        """`start`: the revision from which changes are known."""
        self.records: dict[str, Record] = {}
        self.keys: list[str] = []  # sorted
        self.known_from = start
        self.lost = 0  # the revision of the last change that is not known any more
        self.latest = start  # and of the last change of all
        self.served = True
        self._changes: list[Change] = []
        self._changed = asyncio.Event()

    def within(self, namespace: str) -> list[str]:
        """The keys of a namespace, or all of them."""
        first, last = span(self.keys, namespace)
        return self.keys[first:last]

    def apply(self, change: Change) -> None:
        if change.after is None:
            assert change.before is not None
            del self.records[change.before.key]
            del self.keys[bisect_left(self.keys, change.before.key)]
        else:
            if change.before is None:
                insort(self.keys, change.after.key)
            self.records[change.after.key] = change.after
        self._changes.append(change)
        self.latest = change.revision
        if len(self._changes) > 2 * KEPT:
            self.forget(self._changes[KEPT - 1].revision)
        self.wake()

    def wake(self) -> None:
        """Let all that wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    def forget(self, revision: int) -> None:
        """Drop the history up to `revision`."""
        kept = self._after(revision)
        if kept:
            self.lost = self._changes[kept - 1].revision
        del self._changes[:kept]
        self.known_from = max(self.known_from, revision)

    def since(self, revision: int) -> Sequence[Change]:
        """Changes after `revision`; those before `known_from` are not there any more."""
        return self._changes[self._after(revision) :]

    def at(self, revision: int) -> tuple[Mapping[str, Record], Sequence[str]]:
        """All records and their sorted keys as they were at a revision, not before `known_from`."""
        later = self.since(revision)
        if not later:
            return self.records, self.keys
        records = dict(self.records)
        for change in reversed(later):
            if change.before is not None:
                records[change.before.key] = change.before
            elif change.after is not None:
                del records[change.after.key]
        return records, sorted(records)

    def _after(self, revision: int) -> int:
        return bisect_right(self._changes, revision, key=lambda change: change.revision)


class Storage:
    """All resources, and the revision that counts every write."""

    def __init__(self) -> None:
        self.revision = 1
        self.known_from = 0  # where the history begins
        self._resources: dict[str, Resource] = {}

    def of(self, kind: Kind) -> Resource:
        return self._resources.setdefault(kind.resource, Resource(self.known_from))

    def drop(self, kind: Kind) -> None:
        """A resource that is no longer served: its watches end."""
        resource = self._resources.pop(kind.resource, None)
        if resource is not None:
            resource.served = False
            resource.wake()

    def get(self, kind: Kind, namespace: str, name: str) -> Record | None:
        return self.of(kind).records.get(key_of(namespace, name))

    def objects(self, kind: Kind, namespace: str = "") -> Iterator[Object]:
        """Every object of a kind, in one namespace where it is given."""
        resource = self.of(kind)
        for key in resource.within(namespace):
            yield resource.records[key].object()

    def put(self, kind: Kind, obj: Object) -> Record:
        """Store an object, whose metadata.resourceVersion is set here. Raises Refused (500)."""
        metadata = obj["metadata"]
        key = key_of(metadata.get("namespace", ""), metadata["name"])
        revision = self.revision + 1
        metadata["resourceVersion"] = str(revision)
        resource = self.of(kind)
        record = record_of(kind, key, revision, obj)
        if len(record.body) > _LARGEST:
            raise Refused(500, "", "etcdserver: request is too large")
        self.revision = revision
        resource.apply(Change(self.revision, resource.records.get(key), record))
        return record

    def remove(self, kind: Kind, record: Record) -> None:
        self.revision += 1
        self.of(kind).apply(Change(self.revision, record, None))

    def compact(self) -> int:
        """Forget all history; the revision up to which it is gone.

        It takes a revision of its own, so that a version read before is too old whatever was read.
        """
        self.revision += 1
        self.known_from = self.revision
        for resource in self._resources.values():
            resource.forget(self.revision)
        return self.revision

    def save(self, file: Path) -> None:
        """All objects, a line each behind one with the revision. The history is not kept."""
        with file.open("wb") as out:
            out.write(b"%d\n" % self.revision)
            for name, resource in self._resources.items():
                for record in resource.records.values():
                    head = [name, record.key, record.revision, record.labels, record.fields]
                    out.write(msgspec.json.encode(head) + b"\t" + record.body + b"\n")

    def load(self, file: Path) -> None:
        """What `save` wrote."""
        with file.open("rb") as lines:
            self.revision = self.known_from = int(next(lines))
            for line in lines:
                head, _, body = line.rstrip(b"\n").partition(b"\t")
                name, key, revision, labels, fields = msgspec.json.decode(head)
                resource = self._resources.setdefault(name, Resource(self.known_from))
                resource.records[key] = Record(key, revision, body, labels, fields)
        for resource in self._resources.values():
            resource.keys = sorted(resource.records)


def record_of(kind: Kind, key: str, revision: int, obj: Object) -> Record:
    """The record of an object. Its metadata comes first, its version early in that: `as_of` needs it."""
    metadata = {key: obj["metadata"].get(key) for key in _FIRST} | obj["metadata"]
    obj = {"metadata": {key: value for key, value in metadata.items() if value is not None}} | {
        key: value for key, value in obj.items() if key not in ("metadata", "kind", "apiVersion")
    }
    fields = {"metadata.name": metadata["name"]}
    if kind.namespaced:
        fields["metadata.namespace"] = metadata["namespace"]
    fields |= {path: field_of(obj, path) for path in kind.fields}
    return Record(key, revision, msgspec.json.encode(obj), metadata.get("labels") or {}, fields)


_FIRST = ("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")
