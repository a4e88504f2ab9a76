"""The kinds that a custom resource definition defines."""

from collections.abc import Iterator
from typing import Any

from tests.support.kubernetes.errors import Cause, invalid
from tests.support.kubernetes.kinds import Kind

Object = dict[str, Any]


def complete(obj: Object, kind: Kind) -> Object:
    """A definition with its names filled in. Raises Refused (422)."""
    spec = obj.get("spec", {})
    causes = list(_wrong(obj.get("metadata", {}).get("name", ""), spec))
    if causes:
        raise invalid(kind, obj.get("metadata", {}).get("name", ""), causes)
    spec["names"].setdefault("singular", spec["names"]["kind"].lower())
    spec["names"].setdefault("listKind", spec["names"]["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})
    return obj


def defined(spec: dict[str, Any]) -> Iterator[Kind]:
    """The kinds that a definition defines: one for each version that is served."""
    names = spec["names"]
    for version in spec["versions"]:
        if version["served"]:
            yield Kind(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                status="status" in version.get("subresources", {}),
                short=tuple(names.get("shortNames", ())),
                fields=tuple(each["jsonPath"].lstrip(".") for each in version.get("selectableFields", ())),
                generations=True,
                schema=version["schema"]["openAPIV3Schema"],
                list_name=names["listKind"],
                singular=names["singular"],
            )


def _wrong(name: str, spec: dict[str, Any]) -> Iterator[Cause]:
    names = spec.get("names", {})
    if name != f"{names.get('plural', '')}.{spec.get('group', '')}":
        words = f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
        yield Cause("FieldValueInvalid", "metadata.name", words)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        words = f'Unsupported value: "{spec.get("scope", "")}": supported values: "Cluster", "Namespaced"'
        yield Cause("FieldValueNotSupported", "spec.scope", words)
    if not names.get("kind"):
        yield Cause("FieldValueRequired", "spec.names.kind", "Required value")
    versions = spec.get("versions", [])
    if sum(version.get("storage", False) for version in versions) != 1:
        words = "Invalid value: []: must have exactly one version marked as storage version"
        yield Cause("FieldValueInvalid", "spec.versions", words)
    for at, version in enumerate(versions):
        if "openAPIV3Schema" not in version.get("schema", {}):
            field = f"spec.versions[{at}].schema.openAPIV3Schema"
            yield Cause("FieldValueRequired", field, "Required value: schemas are required")
