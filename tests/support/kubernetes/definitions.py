"""Custom resource definitions: kinds that come and go while the server runs."""

from typing import Any

from tests.support.kubernetes.custom import defined
from tests.support.kubernetes.kinds import DEFINITIONS, Kind
from tests.support.kubernetes.objects import Objects, now
from tests.support.kubernetes.storage import Object


class Definitions:
    """Serves what the stored definitions define."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._kinds = objects, objects.kinds
        self.kind = next(kind for kind in self._kinds if kind.resource == DEFINITIONS)
        for obj in objects.storage.objects(self.kind):
            self._serve(obj)
        objects.hooks.stored.append(self._stored)
        objects.hooks.deleting.append(self._deleting)

    def _stored(self, kind: Kind, obj: Object) -> None:
        if kind != self.kind or "deletionTimestamp" in obj["metadata"]:
            return
        self._serve(obj)
        if not obj.get("status", {}).get("conditions"):
            self._objects.storage.put(self.kind, obj | {"status": _established(obj["spec"])})

    def _serve(self, obj: Object) -> None:
        spec = obj["spec"]
        for former in self._kinds_of(spec):
            self._kinds.remove(former)
        for kind in defined(spec):
            self._kinds.add(kind)

    def _deleting(self, kind: Kind, obj: Object) -> None:
        """First the objects, then their watches, then the definition."""
        if kind != self.kind:
            return
        for custom in self._kinds_of(obj["spec"])[:1]:
            resource = self._objects.storage.of(custom)
            for record in list(resource.records.values()):
                self._objects.storage.remove(custom, record)
        for custom in self._kinds_of(obj["spec"]):
            self._kinds.remove(custom)
            self._objects.storage.drop(custom)
        self._objects.release(kind, obj)

    def _kinds_of(self, spec: dict[str, Any]) -> list[Kind]:
        return [
            kind
            for kind in self._kinds
            if (kind.group, kind.plural) == (spec["group"], spec["names"]["plural"])
        ]


def _established(spec: dict[str, Any]) -> dict[str, Any]:
    met = (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    )
    conditions = [
        {"type": each, "status": "True", "lastTransitionTime": now(), "reason": reason, "message": message}
        for each, reason, message in met
    ]
    stored = [version["name"] for version in spec["versions"] if version["storage"]]
    return {"conditions": conditions, "acceptedNames": spec["names"], "storedVersions": stored}
