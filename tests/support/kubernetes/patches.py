"""Patches: JSON patch (RFC 6902), merge patch (RFC 7386), and Kubernetes' own strategic merge patch."""

import copy
from collections.abc import Callable
from typing import Any

from tests.support.kubernetes.errors import Refused

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

# How strategic merge patch tells the items of a list apart: the `patchMergeKey` tags of the Go types. A name
# that two types give to a list, such as ports, has two keys.
_KEYS: dict[str, tuple[str, ...]] = {
    "addresses": ("type",),
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}


def patched(media_type: str, obj: Any, patch: Any) -> Any:
    """The object with the patch applied; neither is changed. Raises Refused (422) when it does not fit."""
    return _APPLY[media_type](copy.deepcopy(obj), copy.deepcopy(patch))


def _merge(obj: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = obj if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _strategic(obj: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    directive = patch.pop("$patch", None)
    merged = {} if directive == "replace" or not isinstance(obj, dict) else obj
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [item for item in merged.get(name, []) if item not in value]
        elif key.startswith("$"):
            continue  # $setElementOrder and $retainKeys change no more than an order
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, list):
            merged[key] = _strategic_list(key, merged.get(key) or [], value)
        else:
            merged[key] = _strategic(merged.get(key), value)
    return merged


def _strategic_list(field: str, items: list[Any], patch: list[Any]) -> list[Any]:
    if field == "finalizers":
        return items + [item for item in patch if item not in items]
    key = next((key for key in _KEYS.get(field, ()) if any(key in item for item in patch)), None)
    if key is None or any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    for change in patch:
        at = next((at for at, item in enumerate(items) if item.get(key) == change.get(key)), None)
        if change.get("$patch") == "delete":
            items = [item for item in items if item.get(key) != change.get(key)]
        elif at is None:
            items.append(change)
        else:
            items[at] = _strategic(items[at], change)
    return items


def _json_patch(obj: Any, operations: Any) -> Any:
    for operation in operations:
        try:
            obj = _operate(obj, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            message = "the server rejected our request due to an error in our request"
            raise Refused(422, "Invalid", message, {}) from error
    return obj


def _operate(obj: Any, operation: dict[str, Any]) -> Any:
    """Raises KeyError, IndexError, ValueError or TypeError when the operation does not fit."""
    kind, path = operation["op"], operation["path"]
    if kind in ("move", "copy"):
        value = copy.deepcopy(_find(obj, operation["from"]))
        if kind == "move":
            obj = _operate(obj, {"op": "remove", "path": operation["from"]})
        return _operate(obj, {"op": "add", "path": path, "value": value})
    if kind == "test":
        if _find(obj, path) != operation["value"]:
            raise ValueError(path)
        return obj
    if not path:
        return operation["value"]
    above, _, last = path.rpartition("/")
    parent, key = _find(obj, above), _unescape(last)
    if isinstance(parent, list):
        at = len(parent) if key == "-" else int(key)
        if kind == "add":
            parent.insert(at, operation["value"])
        elif kind == "replace":
            parent[at] = operation["value"]
        else:
            del parent[at]
    elif kind == "add":
        parent[key] = operation["value"]
    else:
        del parent[key]
        if kind == "replace":
            parent[key] = operation["value"]
    return obj


def _find(obj: Any, path: str) -> Any:
    for part in path.split("/")[1:]:
        obj = obj[int(part)] if isinstance(obj, list) else obj[_unescape(part)]
    return obj


def _unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


_APPLY: dict[str, Callable[[Any, Any], Any]] = {
    JSON_PATCH: _json_patch,
    MERGE_PATCH: _merge,
    STRATEGIC: _strategic,
}
