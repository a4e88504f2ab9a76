"""CustomResourceDefinitions of the kinds that we act on, made of the types to which we decode them.

For clusters without Istio. The server refuses what we would refuse for its type; fields that are unknown are
kept, so that the agent sees them and can say what it does not understand: an API server that dropped them
would widen policies in silence.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import msgspec

from agent.model.engine.kind import Kind
from agent.model.kinds import KINDS

Schema = dict[str, Any]
_GROUPS = (".istio.io", ".warren.dev")  # of the kinds that need a definition
_KEPT = {"x-kubernetes-preserve-unknown-fields": True}
_COPIED = ("type", "enum", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "required")


def definitions() -> Iterator[Schema]:
    """One for each kind, by name."""
    for _, kind in sorted(KINDS.items()):
        if kind.group.endswith(_GROUPS):
            yield _definition(kind)


def _definition(kind: Kind) -> Schema:
    names = {
        "kind": kind.written,
        "listKind": f"{kind.written}List",
        "plural": kind.plural,
        "singular": kind.written.lower(),
    }
    schema = {
        "type": "object",
        "properties": {"spec": _spec(kind), "status": {"type": "object", **_KEPT}},
        **_KEPT,
    }
    versions = [
        {
            "name": version,
            "served": True,
            "storage": version == kind.versions[0],
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        }
        for version in kind.versions
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": versions,
        },
    }


def _spec(kind: Kind) -> Schema:
    assert kind.struct
    (schema,), components = msgspec.json.schema_components([get_type_hints(kind.struct)["spec"]])
    return _structural(schema, components)


def _structural(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Schema:
    """As Kubernetes takes it: whole in itself, without defaults, alternatives only to null."""
    if reference := schema.get("$ref"):
        return _structural(components[reference.rpartition("/")[2]], components)
    if choices := schema.get("anyOf"):
        others = [choice for choice in choices if choice.get("type") != "null"]
        null = {"nullable": True} if len(others) < len(choices) else {}
        if len(others) == 1:
            return {**_structural(others[0], components), **null}
        return {**_KEPT, **null}  # a number or a text: what it is the agent says
    found = {name: schema[name] for name in _COPIED if name in schema}
    if "enum" in found:
        found["type"] = "string"
    if found.get("type") == "array":
        found["items"] = _structural(schema.get("items", {}), components) or dict(_KEPT)
    if found.get("type") == "object" and "properties" in schema:
        properties = schema["properties"].items()
        found["properties"] = {name: _structural(value, components) for name, value in properties}
        found |= _KEPT
    elif found.get("type") == "object":
        values = schema.get("additionalProperties")
        found["additionalProperties"] = _structural(values, components) if isinstance(values, dict) else _KEPT
    return found or dict(_KEPT)
