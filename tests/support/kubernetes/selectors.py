"""Label and field selectors, as predicates over stored records."""

import re
from collections.abc import Callable, Mapping

from tests.support.kubernetes.errors import bad_request
from tests.support.kubernetes.kinds import Kind
from tests.support.kubernetes.storage import Record

Test = Callable[[Mapping[str, str]], bool]
Predicate = Callable[[Record], bool]

_SET = re.compile(r"(\S+)\s+(in|notin)\s*\(([^)]*)\)")
_EQUALS = re.compile(r"([^\s=!<>]+)\s*(==|=|!=)\s*([^\s=!<>]*)")
_COMPARES = re.compile(r"([^\s=!<>]+)\s*([<>])\s*(-?\d+)")
_EXISTS = re.compile(r"(!?)\s*([^\s=!<>()]+)")


def predicate(kind: Kind, labels: str, fields: str) -> Predicate | None:
    """What both selectors together ask for; None: nothing. Raises Refused (400)."""
    label_tests = [_label(part.strip()) for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
    field_tests = [_field(kind, part.strip()) for part in fields.split(",") if part.strip()]
    if not label_tests and not field_tests:
        return None
    return lambda record: (
        all(test(record.fields) for test in field_tests) and all(test(record.labels) for test in label_tests)
    )


def single_name(fields: str) -> str:
    """The name that a field selector asks for, if any; authorization takes it for the request's name."""
    for part in fields.split(","):
        found = _EQUALS.fullmatch(part.strip())
        if found and found[1] == "metadata.name" and found[2] != "!=":
            return found[3]
    return ""


def _label(text: str) -> Test:
    if found := _SET.fullmatch(text):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUALS.fullmatch(text):
        return _compare(*found.groups())
    if found := _COMPARES.fullmatch(text):
        key, operator, limit = found.groups()
        return lambda labels: _beyond(labels.get(key, ""), operator, int(limit))
    if found := _EXISTS.fullmatch(text):
        wanted, key = not found[1], found[2]
        return lambda labels: (key in labels) is wanted
    raise bad_request(f"unable to parse requirement: {text!r}")


def _field(kind: Kind, text: str) -> Test:
    found = _EQUALS.fullmatch(text)
    if not found:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{text}'")
    known = {"metadata.name", *kind.fields, *(("metadata.namespace",) if kind.namespaced else ())}
    if found[1] not in known:
        raise bad_request(f"field label not supported: {found[1]}")
    return _compare(*found.groups())


def _beyond(value: str, operator: str, limit: int) -> bool:
    if not re.fullmatch(r"-?\d+", value):
        return False
    return int(value) > limit if operator == ">" else int(value) < limit


def _compare(key: str, operator: str, value: str) -> Test:
    if operator == "!=":
        return lambda values: values.get(key) != value
    return lambda values: values.get(key) == value
