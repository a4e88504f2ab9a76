"""The built-in kinds' fields and their types, from the models of the `kubernetes` client.

As a server that decodes into Go structs: unknown fields are dropped, a wrong type is refused; null, and an
empty map or list, is nothing.
"""

import base64
import binascii
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from kubernetes.client import models

from tests.support.kubernetes.errors import bad_request
from tests.support.kubernetes.kinds import Kind

Read = Callable[[Any, str, list[str]], Any]

_JSON_TYPES = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_SECONDS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
_MICROSECONDS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)"
_EXACT_TIMES = ("acquireTime", "renewTime", "eventTime", "lastObservedTime")  # Go's MicroTime
_PORTS = ("port", "targetPort")  # a number or a name
_AMOUNT = r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)"
# Lists that are shown as null when they are empty: those without `omitempty` in the Go types.
_SHOWN = {
    "V1ClusterRole": ("rules",),
    "V1EndpointSlice": ("endpoints", "ports"),
    "V1PodSpec": ("containers",),
    "V1Role": ("rules",),
}
_QUANTITIES = ("limits", "requests", "capacity", "allocatable", "sizeLimit")


def typed(kind: Kind, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An object as the server understands it, and the paths of unknown fields. Raises Refused (400)."""
    unknown: list[str] = []
    try:
        read: dict[str, Any] = _model(_model_of(kind.name))(obj, "", unknown) or {}
    except _Unreadable as error:
        what = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}'
        raise bad_request(f"{what}: {error}") from error
    return read, unknown


class _Unreadable(Exception):
    """What is wrong, in the words of the server's decoder."""


class _Mismatch(_Unreadable):
    def __init__(self, path: str, value: Any, wanted: str) -> None:
        found = _JSON_TYPES[type(value)]
        super().__init__(f"json: cannot unmarshal {found} into Go struct field {path} of type {wanted}")


def _model_of(name: str) -> str:
    return "CoreV1Event" if name == "Event" else f"V1{name}"


@cache
def _model(name: str) -> Read:
    model = getattr(models, name)
    fields: dict[str, Read] = {}

    def read(value: Any, path: str, unknown: list[str]) -> Any:
        if not fields:  # only now: models contain themselves
            for attribute, type_ in model.openapi_types.items():
                field = model.attribute_map[attribute]
                fields[field] = _special(field, type_) or _reader(type_)
        if not isinstance(value, dict):
            raise _Mismatch(path, value, name)
        prefix = f"{path}." if path else ""
        found = {}
        for key, item in value.items():
            if key not in fields:
                unknown.append(prefix + key)
            elif item is not None:
                understood = fields[key](item, prefix + key, unknown)
                if understood is not None:
                    found[key] = understood
        for key in _SHOWN.get(name, ()):
            found.setdefault(key, None)
        return found

    return read


@cache
def _reader(type_: str) -> Read:
    """Of a type in the words of the client's models: `Dict[str, V1Pod]`, `List[str]`, `datetime`, ..."""
    if type_.startswith("Dict["):
        return _mapping(_reader(type_[len("Dict[str, ") : -1]))
    if type_.startswith("List["):
        return _list(_reader(type_[len("List[") : -1]))
    if type_ == "object":
        return lambda value, path, unknown: value
    return _SIMPLE[type_] if type_ in _SIMPLE else _model(type_)


def _mapping(item: Read) -> Read:
    def read(value: Any, path: str, unknown: list[str]) -> Any:
        if not isinstance(value, dict):
            raise _Mismatch(path, value, "map")
        return {
            key: item(each, f"{path}.{key}", unknown) for key, each in value.items() if each is not None
        } or None

    return read


def _list(item: Read) -> Read:
    def read(value: Any, path: str, unknown: list[str]) -> Any:
        if not isinstance(value, list):
            raise _Mismatch(path, value, "slice")
        return [item(each, f"{path}[{at}]", unknown) for at, each in enumerate(value)] or None

    return read


def _special(field: str, type_: str) -> Read | None:
    """For fields whose type the models do not tell exactly."""
    if field in _QUANTITIES:
        return _mapping(_quantity) if type_.startswith("Dict[") else _quantity
    if type_ == "object" and field in _PORTS:
        return _simple(int, str, name="intstr.IntOrString")
    return _time(_MICROSECONDS) if type_ == "datetime" and field in _EXACT_TIMES else None


def _quantity(value: Any, path: str, unknown: list[str]) -> Any:
    """An amount; it may be a number as well."""
    if not re.fullmatch(_AMOUNT, str(value)):
        raise _Unreadable(f"quantities must match the regular expression '^{_AMOUNT}$'")
    return str(value)


def _time(pattern: str) -> Read:
    def read(value: Any, path: str, unknown: list[str]) -> Any:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _Unreadable(f'parsing time "{value}": it does not match {pattern}')
        return value

    return read


def _simple(*types: type, name: str) -> Read:
    def read(value: Any, path: str, unknown: list[str]) -> Any:
        if type(value) not in types:
            raise _Mismatch(path, value, name)
        return value

    return read


def _bytes(value: Any, path: str, unknown: list[str]) -> Any:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _Unreadable(f"illegal base64 data: {error}") from error
    return value


_SIMPLE: dict[str, Read] = {
    "str": _simple(str, name="string"),
    "datetime": _time(_SECONDS),
    "int": _simple(int, name="int"),
    "float": _simple(int, float, name="float64"),
    "bool": _simple(bool, name="bool"),
    "bytes": _bytes,
}
