"""Reads what can be understood of objects that are refused. Raw values are JSON's."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from agent.model.engine.kind import Raw

T = TypeVar("T")


def names(type_: type[Struct]) -> set[str]:
    """What its fields are called where it is written."""
    return {field.encode_name for field in fields(type_)}


def part(spec: Raw, fields_: tuple[str, ...], type_: type[T]) -> T | None:
    """These fields of a spec, if they are understood and go together."""
    return read({name: spec[name] for name in fields_ if name in spec}, type_)


def get(raw: Any, name: str) -> Any:
    """A value of a mapping; None where there is none."""
    return raw.get(name) if isinstance(raw, dict) else None


def list_(raw: Any) -> list[Any]:
    """A list; empty where it is none."""
    return raw if isinstance(raw, list) else []


def read(raw: Any, type_: type[T]) -> T | None:
    """None: it is not understood."""
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError:
        return None


def conditions(raw: Any, type_: type[T], needed: tuple[str, ...] = ()) -> T | None:
    """All of them have to hold: those fields that are understood by themselves; None: there are none.

    needed: fields that say what the others mean.
    """
    if not isinstance(raw, dict):
        return None
    always = {name: raw[name] for name in needed if name in raw}
    fit = {name: value for name, value in raw.items() if read({**always, name: value}, type_)}
    return read({**always, **fit}, type_)
