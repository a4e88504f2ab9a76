"""YAML as kubectl reads it: YAML 1.1 as of Go's yaml.v2, and then JSON (sigs.k8s.io/yaml).

`yes` is a boolean, `010` is 8, `1:30` a string, and keys that are integers or booleans become strings. A null
is a field that is not there: so the API server has it. Stricter than kubectl where that would pass over
something: a key that is there twice, a key with a fraction and a tag of another program's are refused.
"""

import re
from base64 import b64decode
from math import isfinite
from typing import Any

import yaml
from yaml.constructor import ConstructorError

_MOST = 1_000_000  # values of a document, those behind an alias counted each time
_DEEPEST = 100  # levels; what we read of any object has less than 20
_TAG = "tag:yaml.org,2002:"
_TAGS = {
    type_: _TAG + name
    for type_, name in ((type(None), "null"), (bool, "bool"), (int, "int"), (float, "float"), (str, "str"))
}
_DEFAULT = {yaml.ScalarNode: _TAGS[str], yaml.SequenceNode: f"{_TAG}seq", yaml.MappingNode: f"{_TAG}map"}
_MERGE, _BINARY = f"{_TAG}merge", f"{_TAG}binary"
_TEXTS = (_TAGS[str], f"{_TAG}timestamp", _MERGE)
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INT = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[oO]?(?P<oct>[0-7]+)|0[bB](?P<bin>[01]+)|(?P<dec>0|[1-9]\d*))",
    re.ASCII,
)
_BASES = {"hex": 16, "oct": 8, "bin": 2, "dec": 10}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_A_NUMBER = re.compile(r"\.nan|\.NaN|\.NAN|[-+]?\.(inf|Inf|INF)")
_SIGNED, _UNSIGNED = range(-(2**63), 2**63), range(2**64)


def scalar(text: str) -> bool | int | float | str | None:
    """The value of a scalar without quotes. Raises ValueError for an infinity, which JSON does not have."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _NOT_A_NUMBER.fullmatch(text):
        raise ValueError(f"{text} is no number that an object could have")
    digits = text if text[0] == "." else text.replace("_", "")
    if (number := _integer(digits)) is not None:
        return number
    return _float(float(digits), text) if _FLOAT.fullmatch(digits) else text


def _integer(digits: str) -> int | None:
    """None: it is no integer, or none that 64 bits hold."""
    match = _INT.fullmatch(digits)
    if not match:
        return None
    base = match.lastgroup or ""
    number = int(match["sign"] + match[base], _BASES[base])
    return number if number in _SIGNED or (number in _UNSIGNED and not match["sign"]) else None


def _float(number: float, text: str) -> int | float | str:
    """JSON does not tell 80.0 from 80, and has nothing for what is too large."""
    if not isfinite(number):
        return text
    return int(number) if number.is_integer() and int(number) in _SIGNED else number


def load(text: bytes) -> Any:
    """The one document of a text. Raises yaml.MarkedYAMLError."""
    loader = Loader(text)
    document = loader.get_single_node()
    return document and loader.value(document)


def dump(value: Any) -> str:
    """A document that Kubernetes' tools and `load` read as this value: in quotes what has to be."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


class Loader(yaml.CSafeLoader):
    """Finds the documents of a text, and makes of each what its JSON would be."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._left = 0

    def value(self, document: yaml.Node) -> Any:
        """What a document says. Raises yaml.MarkedYAMLError; the next document is another matter."""
        self._left = _MOST
        return self._value(document, _DEEPEST)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return _resolve(kind, value, implicit)

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _error(f"the document has more than {_MOST} values, aliases counted each time", node)
        if not depth:
            raise _error(f"it nests deeper than {_DEEPEST} levels, or contains itself", node)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, depth - 1) for child in node.value]
        mapping = self._mapping(node, depth - 1)
        return {name: value for name, value in mapping.items() if value is not None}

    def _mapping(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        result = dict[str, Any]()
        names = set[str]()
        for name, child in node.value:
            if name.tag == _MERGE:
                result |= self._merged(child, depth)
                continue
            key = _key(name)
            if key in names:
                raise _error(f"{key} is there twice", node)
            names.add(key)
            result[key] = self._value(child, depth)
        return result

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """What `<<` brings in: of several mappings the first counts, and all of it less than what follows."""
        result = dict[str, Any]()
        for one in reversed(node.value) if isinstance(node, yaml.SequenceNode) else (node,):
            if not isinstance(one, yaml.MappingNode):
                raise _error("<< takes a mapping, or a list of them", one)
            result |= self._value(one, depth)
        return result


class _Dumper(yaml.CSafeDumper):
    """Puts a string in quotes where it would be taken for something else without."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return _resolve(kind, value, implicit)


def _resolve(kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
    """The tag of a node that says none; whether it has no quotes is the first of `implicit`."""
    if kind is not yaml.ScalarNode or not implicit[0]:
        return _DEFAULT[kind]
    if value == "<<":
        return _MERGE
    try:
        return _TAGS[type(scalar(value))]
    except ValueError:
        return _TAGS[float]


def _key(node: yaml.Node) -> str:
    value = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise _error("a key is a string, an integer or a boolean: put it in quotes", node)


def _scalar(node: yaml.ScalarNode) -> bool | int | float | str | None:
    if node.tag in _TEXTS:
        return str(node.value)
    if node.tag == _BINARY:
        return _binary(node)
    if node.tag not in _TAGS.values():
        raise _error(f"the tag {node.tag} is none of Kubernetes' own; leave it out", node)
    try:
        value = scalar(node.value)
    except ValueError as error:
        raise _error(str(error), node) from None
    if node.tag != _TAGS[type(value)] and (node.tag, type(value)) != (_TAGS[float], int):
        raise _error(f"{node.value} is no {node.tag.rpartition(':')[2]}", node)
    return value


def _binary(node: yaml.ScalarNode) -> str:
    try:
        return b64decode("".join(node.value.split()), validate=True).decode()
    except ValueError:
        raise _error("!!binary takes Base64 of a text", node) from None


def _error(reason: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(None, None, reason, node.start_mark)
