"""Create, update, patch, delete: what a write does to the stored objects."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.kubernetes import defaults, names, schema
from tests.support.kubernetes.errors import (
    Cause,
    Refused,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from tests.support.kubernetes.kinds import DEFINITIONS, Kind, Kinds
from tests.support.kubernetes.storage import Object, Record, Storage, key_of, record_of
from tests.support.kubernetes.typed import typed

# What a writer cannot change.
_GIVEN = ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
_FIXED = ("name", "generateName", "namespace", "uid", "creationTimestamp", *_GIVEN)


@dataclass(frozen=True)
class How:
    """Options of a write. `strict`: unknown fields are refused, not dropped."""

    dry_run: bool = False
    strict: bool = False


@dataclass
class Hooks:
    """Who is told after a write; `deleting`: that an object is marked, by those who must clear up first."""

    stored: list[Callable[[Kind, Object], None]] = field(default_factory=list)
    removed: list[Callable[[Kind, Object], None]] = field(default_factory=list)
    deleting: list[Callable[[Kind, Object], None]] = field(default_factory=list)


class Objects:
    """Writes, as the server's registry does them."""

    def __init__(self, storage: Storage, kinds: Kinds) -> None:
        self.storage, self.kinds, self.hooks = storage, kinds, Hooks()

    def find(self, kind: Kind, namespace: str, name: str) -> Record:
        """Raises Refused (404)."""
        record = self.storage.get(kind, namespace, name)
        if record is None:
            raise not_found(kind, name)
        return record

    def create(self, kind: Kind, namespace: str, body: Object, how: How = How()) -> Record:
        obj = self._understood(kind, body, how)
        metadata = obj.setdefault("metadata", {})
        if metadata.setdefault("namespace", namespace) != namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise bad_request(message)
        if not namespace:
            del metadata["namespace"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = names.generated(metadata["generateName"])
        self._check_namespace(kind, namespace, metadata.get("name", ""))
        if metadata.get("resourceVersion"):
            raise Refused(500, "", "resourceVersion should not be set on objects to be created")
        for fixed in _GIVEN:
            metadata.pop(fixed, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        defaults.before_create(kind, obj, self.storage)
        self._check(kind, obj)
        if self.storage.get(kind, namespace, metadata["name"]) is not None:
            raise already_exists(kind, metadata["name"])
        return self._store(kind, obj, how)

    def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Callable[[Object], Object],
        *,
        subresource: str = "",
        how: How = How(),
    ) -> Record:
        """Replace an object by what `change` makes of it, with its kind and apiVersion.

        subresource: empty or `status`.
        """
        record = self.find(kind, namespace, name)
        old = record.object()
        obj = self._understood(kind, change({"kind": kind.name, "apiVersion": kind.api_version, **old}), how)
        metadata = obj.setdefault("metadata", {})
        self._check_identity(kind, metadata, old["metadata"], name)
        if subresource:
            obj = defaults.before_status_update(obj, old)
        else:
            for fixed in _FIXED:
                metadata.pop(fixed, None)
                if fixed in old["metadata"]:
                    metadata[fixed] = old["metadata"][fixed]
            metadata["resourceVersion"] = str(record.revision)
            defaults.before_update(kind, obj, old)
        self._check(kind, obj)
        metadata = obj["metadata"]
        held = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in metadata and not held:
            return self._remove(kind, record, obj, how)
        if record_of(kind, record.key, record.revision, obj).object() == old:
            return record  # nothing changed, and so no new version
        return self._store(kind, obj, how)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: dict[str, Any],
        how: How = How(),
    ) -> tuple[Record, bool]:
        """Delete an object, or mark it where something holds it; tells whether it is gone."""
        record = self.find(kind, namespace, name)
        obj = record.object()
        metadata = obj["metadata"]
        self._check_preconditions(kind, name, options.get("preconditions") or {}, metadata)
        if kind.resource == "namespaces" and name in ("default", "kube-system", "kube-public"):
            raise forbidden(kind, name, "this namespace may not be deleted")
        period = _grace(obj, options.get("gracePeriodSeconds")) if kind.resource == "pods" else 0
        held = bool(metadata.get("finalizers")) or kind.resource in ("namespaces", DEFINITIONS)
        marked = "deletionTimestamp" in metadata
        sooner = period < metadata.get("deletionGracePeriodSeconds", 0)
        if (held or kind.resource == "pods") and (not marked or sooner):  # a pod even when it goes at once
            if "generation" in metadata and not marked:
                metadata["generation"] += 1
            metadata["deletionTimestamp"] = now(period)
            metadata["deletionGracePeriodSeconds"] = period
            record = self._store(kind, obj, how)
        if not held and not period:
            return self._remove(kind, record, obj, how), True
        if not how.dry_run:
            for told in self.hooks.deleting:
                told(kind, obj)
        return record, False

    def release(self, kind: Kind, obj: Object) -> None:
        """Let go of an object that was marked, now that nothing holds it."""
        metadata = obj["metadata"]
        record = self.storage.get(kind, metadata.get("namespace", ""), metadata["name"])
        if record is not None:
            self._remove(kind, record, obj, How())

    def _store(self, kind: Kind, obj: Object, how: How) -> Record:
        if how.dry_run:
            metadata = obj["metadata"]
            return record_of(kind, key_of(metadata.get("namespace", ""), metadata["name"]), 0, obj)
        record = self.storage.put(kind, obj)
        for told in self.hooks.stored:
            told(kind, obj)
        return record

    def _remove(self, kind: Kind, record: Record, obj: Object, how: How) -> Record:
        if not how.dry_run:
            self.storage.remove(kind, record)
            for told in self.hooks.removed:
                told(kind, obj)
        return record_of(kind, record.key, self.storage.revision, obj)

    def _understood(self, kind: Kind, body: Object, how: How) -> Object:
        """The object that a request carries: unknown fields dropped, or refused when that is asked for."""
        _check_type(kind, body)
        if kind.schema is None:
            obj, unknown = typed(kind, body)
        else:
            obj = body
            unknown = schema.prune(kind.schema, obj)
        if unknown and how.strict:
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            what = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}'
            raise bad_request(f"{what}: strict decoding error: {listed}")
        return obj

    def _check(self, kind: Kind, obj: Object) -> None:
        """Set the defaults of a schema, in place, and hold the object against it. Raises Refused (422)."""
        metadata = obj["metadata"]
        causes = names.wrong_metadata(kind.names, metadata)
        if kind.schema is not None:
            schema.set_defaults(kind.schema, obj)
            causes += schema.wrong(kind.schema, {key: obj[key] for key in obj if key != "metadata"})
        if causes:
            raise invalid(kind, metadata.get("name", ""), causes)

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not namespace:
            return
        found = self.find(self.kinds.core("namespaces"), "", namespace).object()
        if "deletionTimestamp" in found["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            message = f"namespace {namespace} is being terminated"
            raise forbidden(kind, name, why, Cause("NamespaceTerminating", "metadata.namespace", message))

    def _check_identity(self, kind: Kind, new: Object, old: Object, name: str) -> None:
        """That the object is the one that it is to replace. Raises Refused (400, 409, 422)."""
        if new.get("namespace", old.get("namespace")) != old.get("namespace"):
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise bad_request(message)
        if new.get("uid", old["uid"]) != old["uid"]:
            uids = f"Precondition failed: UID in precondition: {new['uid']}, UID in object meta: {old['uid']}"
            raise conflict(kind, name, uids)
        version = new.get("resourceVersion", "")
        if not version and (kind.schema is not None or kind.plural == "leases"):
            words = "Invalid value: 0: must be specified for an update"
            raise invalid(kind, name, [Cause("FieldValueInvalid", "metadata.resourceVersion", words)])
        if version and version != old["resourceVersion"]:
            raise conflict(kind, name)

    def _check_preconditions(self, kind: Kind, name: str, wanted: Object, metadata: Object) -> None:
        for key in ("uid", "resourceVersion"):
            value, found = wanted.get(key), metadata[key]
            if value and value != found:
                why = f"the {key} in the precondition ({value}) does not match that in record ({found})"
                raise conflict(kind, name, why)


def now(ahead: int = 0) -> str:
    """The time as Kubernetes writes it, so many seconds ahead."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead))


def _grace(pod: Object, asked: int | None) -> int:
    """The seconds that a pod is given; none when it is on no node, or has ended."""
    phase = pod.get("status", {}).get("phase")
    if not pod["spec"].get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    period: int = pod["spec"]["terminationGracePeriodSeconds"] if asked is None else asked
    return max(period, 0)


def _check_type(kind: Kind, body: Any) -> None:
    """That the body is an object of this kind; built-in ones need not say so."""
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.name})")
    said, version = body.get("kind", ""), body.get("apiVersion", "")
    if kind.schema is not None:
        if not said or not version:
            missing = "Kind" if not said else "apiVersion"
            what = f"the object provided is unrecognized (must be of type {kind.name})"
            raise bad_request(f"{what}: Object '{missing}' is missing")
        if version != kind.api_version:
            what = f"the API version in the data ({version}) does not match the expected API version"
            raise bad_request(f"{what} ({kind.api_version})")
    if said and said != kind.name:
        what = f'{said} in version "{version}" cannot be handled as a {kind.name}'
        raise bad_request(f"{what}: unknown conversion")
