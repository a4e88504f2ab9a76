"""What a custom resource's OpenAPI schema does to its objects: pruning, defaults, validation.

Rules in CEL (`x-kubernetes-validations`) are not looked at.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from tests.support.kubernetes.errors import Cause

Schema = Mapping[str, Any]

_UNTYPED = ("apiVersion", "kind", "metadata")  # of an object itself: never pruned
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def prune(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Drop, in place, what the schema does not know; the paths of what was dropped."""
    dropped: list[str] = []
    if isinstance(value, list) and "items" in schema:
        for at, item in enumerate(value):
            dropped += prune(schema["items"], item, f"{path}[{at}]")
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        more = schema.get("additionalProperties")
        for key in list(value):
            here = f"{path}.{key}" if path else key
            if not path and key in _UNTYPED:
                continue
            if key in properties:
                dropped += prune(properties[key], value[key], here)
            elif isinstance(more, Mapping):
                dropped += prune(more, value[key], here)
            elif not (more or schema.get("x-kubernetes-preserve-unknown-fields")):
                del value[key]
                dropped.append(here)
    return dropped


def set_defaults(schema: Schema, value: Any) -> None:
    """Set, in place, what is missing, or null where null is not allowed."""
    if isinstance(value, list):
        for item in value:
            set_defaults(schema.get("items", {}), item)
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        for key in [key for key, item in value.items() if item is None]:
            if key in properties and not properties[key].get("nullable"):
                del value[key]
        for key, item in properties.items():
            if key not in value and "default" in item:
                value[key] = copy.deepcopy(item["default"])
        more = schema.get("additionalProperties")
        for key, item in value.items():
            set_defaults(properties.get(key) or (more if isinstance(more, Mapping) else {}), item)


def wrong(schema: Schema, value: Any, path: str = "") -> list[Cause]:
    """All that the schema forbids about a value."""
    if value is None and schema.get("nullable"):
        return []
    causes = _wrong_type(schema, value, path)
    if causes:
        return causes
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(f'"{each}"' for each in schema["enum"])
        causes.append(
            Cause("FieldValueNotSupported", path, f'Unsupported value: "{value}": supported values: {known}')
        )
    if isinstance(value, dict):
        causes += _wrong_object(schema, value, path)
    elif isinstance(value, list):
        causes += _beyond(schema, path, len(value), "Items", "items")
        for at, item in enumerate(value):
            causes += wrong(schema.get("items", {}), item, f"{path}[{at}]")
    elif isinstance(value, str):
        causes += _wrong_string(schema, value, path)
    elif not isinstance(value, bool) and value is not None:
        causes += _beyond(schema, path, value, "imum")
    return causes + _wrong_combination(schema, value, path)


def _wrong_type(schema: Schema, value: Any, path: str) -> list[Cause]:
    if schema.get("x-kubernetes-int-or-string"):
        fits, wanted = type(value) in (int, str), "integer,string"
    else:
        wanted = schema.get("type", "")
        found = _NAMES.get(type(value), "null")
        fits = not wanted or wanted == found or (wanted, found) == ("number", "integer")
    if fits:
        return []
    found = _NAMES.get(type(value), "null")
    message = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
    return [Cause("FieldValueTypeInvalid", path, message)]


def _wrong_object(schema: Schema, value: dict[str, Any], path: str) -> list[Cause]:
    inside = f"{path}." if path else ""
    causes = [
        Cause("FieldValueRequired", inside + key, "Required value")
        for key in schema.get("required", ())
        if key not in value
    ]
    causes += _beyond(schema, path, len(value), "Properties", "properties")
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        rule = properties.get(key, more)
        if isinstance(rule, Mapping):
            causes += wrong(rule, item, inside + key)
    return causes


def _wrong_string(schema: Schema, value: str, path: str) -> list[Cause]:
    causes = []
    longest = schema.get("maxLength")
    if longest is not None and len(value) > longest:
        causes.append(Cause("FieldValueTooLong", path, f"Too long: may not be more than {longest} bytes"))
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        message = f'Invalid value: "{value}": {path} in body should be at least {least} chars long'
        causes.append(Cause("FieldValueInvalid", path, message))
    if "pattern" in schema and not re.search(schema["pattern"], value):
        message = f"Invalid value: \"{value}\": {path} in body should match '{schema['pattern']}'"
        causes.append(Cause("FieldValueInvalid", path, message))
    return causes


def _beyond(schema: Schema, path: str, value: float, what: str, words: str = "") -> list[Cause]:
    """`what`: the limits are called so behind `min` and `max`. `words`: what there is too much of."""
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and value < least:
        limit = f"at least {least}"
    elif most is not None and value > most:
        limit = f"at most {most}"
    else:
        return []
    be = "have" if words else "be"
    message = f"Invalid value: {value}: {path} in body should {be} {limit} {words}".rstrip()
    return [Cause("FieldValueInvalid", path, message)]


def _wrong_combination(schema: Schema, value: Any, path: str) -> list[Cause]:
    def fitting(alternatives: list[Schema]) -> int:
        return sum(not wrong(each, value, path) for each in alternatives)

    words = []
    if "anyOf" in schema and not fitting(schema["anyOf"]):
        words.append("must validate at least one schema (anyOf)")
    if "oneOf" in schema and fitting(schema["oneOf"]) != 1:
        words.append("must validate one and only one schema (oneOf)")
    if "not" in schema and fitting([schema["not"]]):
        words.append("must not validate the schema (not)")
    causes = [Cause("FieldValueInvalid", "<nil>", f'Invalid value: "": "{path}" {each}') for each in words]
    for each in schema.get("allOf", ()):
        causes += wrong(each, value, path)
    return causes
