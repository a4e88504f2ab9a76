"""Text -> objects one by one; whatever is wrong with one is told with its field, and in YAML its line."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from agent.model.kinds import KINDS, find
from agent.model.schema.objects import Key
from agent.model.schema.syntax import FieldError, check_labels, check_name, is_subdomain
from agent.sources.kubeyaml import Loader

T = TypeVar("T")

_PATH = re.compile(r"^(?P<reason>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
# Where a document begins, with its directives. Within one nothing may look so: a bad one harms no others.
_BEGIN = re.compile(rb"^(?:%.*\n)*---(?=\s|\Z)", re.MULTILINE)

Step = str | int


class Problem(NamedTuple):
    """Why a document is not used. `line` counts from 1; `key` is None when not even that can be told."""

    line: int
    key: Key | None
    reason: str


class Refused(Exception):
    """An object that is not used. `steps` lead from its root to the value that is wrong."""

    def __init__(self, reason: str, key: Key | None = None, steps: tuple[Step, ...] = ()) -> None:
        super().__init__(reason)
        self.key, self.steps = key, steps


class Item(NamedTuple):
    """An object as it was written, without what is null.

    root and steps say where in its document, which begins after so many lines (above).
    """

    value: Any
    root: yaml.Node
    steps: tuple[Step, ...]
    above: int

    def line(self, steps: tuple[Step, ...] = ()) -> int:
        """Where the object stands, or a value in it, counted from 1."""
        return self.above + _line(self.root, (*self.steps, *steps))

    def problem(self, refused: Refused) -> Problem:
        return Problem(self.line(refused.steps), refused.key, str(refused))


def items(text: bytes, problems: list[Problem]) -> Iterator[Item]:
    """All documents, and the entries of each List. What is no YAML goes to `problems`."""
    for above, document in _split(text):
        for node, content in _read(document, above, problems):
            for steps, value in _entries(content) if content is not None else ():
                yield Item(value, node, steps, above)


def unread(text: bytes) -> Iterator[tuple[Problem, bytes]]:
    """What is no YAML, each with the document in which it is."""
    for above, document in _split(text):
        problems: list[Problem] = []
        for _ in _read(document, above, problems):
            pass
        yield from ((problem, document) for problem in problems)


def head(value: Any) -> tuple[str, str]:
    """The apiVersion and kind of an object. Raises Refused."""
    if not isinstance(value, dict):
        raise Refused(f"an object with apiVersion and kind belongs here, not {value!r:.60}")
    version, kind = value.get("apiVersion"), value.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        raise Refused("apiVersion and kind are needed", _named(kind, value))
    return version, kind


def _named(kind: Any, value: dict[str, Any]) -> Key | None:
    """Which object it is, where it says that without an apiVersion."""
    if isinstance(kind, str) and kind in KINDS:
        with suppress(Refused):
            return key_of(kind, value)
    return None


def kind_of(value: Any) -> str:
    """The kind of an object as keys have it. Raises Refused."""
    known = find(*head(value))
    return known.name if known else head(value)[1]


def key_of(kind: str, raw: dict[str, Any]) -> Key:
    """The key of an object; of one without a namespace, that of `default`. Raises Refused."""
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise Refused(f"{kind}: metadata.name is needed, and a string", None, ("metadata", "name"))
    if kind in KINDS and not KINDS[kind].namespaced:
        return Key(kind, "", name)
    namespace = metadata.get("namespace", "")
    if not isinstance(namespace, str):
        raise Refused(f"{kind} {name}: metadata.namespace must be a string", None, ("metadata", "namespace"))
    return Key(kind, namespace or "default", name)


def check_metadata(raw: dict[str, Any], key: Key) -> None:
    """What an API server demands of it, where none has seen the object. Raises Refused."""
    convert({"metadata": raw["metadata"]}, _Written, key)


class _Metadata(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Kubernetes' ObjectMeta."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generate_name: Any = None
    self_link: Any = None
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    owner_references: Any = None
    finalizers: Any = None
    managed_fields: Any = None

    def __post_init__(self) -> None:
        if not is_subdomain(self.name):
            reason = "is no name: lower case letters, digits and -, in parts with dots between"
            raise FieldError(f"{self.name!r} {reason}", "name")
        check_labels(self.labels.items(), "labels")
        for name in self.annotations:
            check_name(name.lower(), "annotations")


class _Written(msgspec.Struct):
    metadata: _Metadata


def convert(raw: Any, type_: type[T], key: Key) -> T:
    """Check an object and give it its type. Raises Refused."""
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError as error:
        raise _explain(error, raw, type_, key) from None


def _type_of(decoder: msgspec.json.Decoder[T]) -> Any:
    """What msgspec says of it differs from version to version: `type[T]`, or `TypeForm[T]`."""
    return decoder.type


def decode(text: bytes, decoder: msgspec.json.Decoder[T], key: Key) -> T:
    """Check an object that an API server told, and give it its type. Raises Refused."""
    try:
        try:
            return decoder.decode(text)
        except msgspec.ValidationError:
            read: T = convert(_without_nulls(msgspec.json.decode(text)), _type_of(decoder), key)
            return read
    except RecursionError:
        raise Refused("it nests too deeply", key) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not JSON: {error}", key) from None


def readable(text: bytes) -> Any:
    """A refused object of an API server, as it was written; None where not even that can be read."""
    try:
        return _without_nulls(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _split(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Each document, and how many lines are above it."""
    above = 0
    for start, end in pairwise([0, *(begin.start() for begin in _BEGIN.finditer(text)), len(text)]):
        yield above, text[start:end]
        above += text.count(b"\n", start, end)


def _read(document: bytes, above: int, problems: list[Problem]) -> Iterator[tuple[yaml.Node, Any]]:
    try:
        loader = Loader(document)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said so
            try:
                yield node, loader.value(node)
            except yaml.constructor.ConstructorError as error:
                problems.append(_syntax(error, above))
    except yaml.MarkedYAMLError as error:
        problems.append(_syntax(error, above))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        problems.append(Problem(above + 1, None, f"not YAML: {str(error).splitlines()[0]}"))


def _syntax(error: yaml.MarkedYAMLError, above: int) -> Problem:
    mark = error.problem_mark or error.context_mark
    return Problem(above + (mark.line + 1 if mark else 1), None, f"not YAML: {error.problem}")


def _entries(document: Any) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """The document, or the entries of a List, those of Lists in it too, each with the way to it.

    An entry of a `PodList` that does not say what it is is a Pod.
    """
    if not _is_list(document):
        yield (), document
        return
    items = document.get("items")
    if not isinstance(items, list):
        yield ("items",), items
        return
    for index, item in enumerate(items):
        for steps, value in _entries(_typed(item, document)):
            yield ("items", index, *steps), value


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and str(document.get("kind", "")).endswith("List")


def _typed(item: Any, of: dict[str, Any]) -> Any:
    kind = of["kind"].removesuffix("List")
    if kind and isinstance(item, dict) and "kind" not in item:
        return {**item, "apiVersion": of.get("apiVersion"), "kind": kind}
    return item


def _explain(error: msgspec.ValidationError, raw: Any, type_: Any, key: Key) -> Refused:
    """A decoder's message -> field, reason, what stands there, and what to write."""
    match = _PATH.match(str(error))
    assert match
    reason, steps, value = match["reason"].replace("`", ""), list[Step](), raw
    for name, index in _STEP.findall(match["path"] or ""):
        entry = _culprit(error, raw, steps, type_) if index == "..." else None
        steps.append(entry if entry is not None else int(index) if index.isdecimal() else name)
        value = _child(value, steps[-1])
    if isinstance(error.__cause__, FieldError):
        steps += error.__cause__.steps
        value = None  # the reason names what it has to
    elif "matching regex" in reason:
        reason = "a name has lower case letters, digits, - and . only"
    elif reason.startswith("Expected str") and isinstance(value, int | float):
        reason = "this is a string: put it in quotes"
    elif "unknown field" in reason:
        reason = f"{reason.removeprefix('Object contains ')}; correct it, or remove it"
    found = "" if isinstance(value, dict | list) or value is None else f" (found {value!r:.60})"
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    return Refused(f"{field}: {reason}{found}" if field else f"{reason}{found}", key, tuple(steps))


def _culprit(error: msgspec.ValidationError, raw: Any, steps: list[Step], type_: Any) -> Step | None:
    """Which entry of the mapping there is wrong: the one that makes the same error alone."""
    mapping = raw
    for step in steps:
        mapping = _child(mapping, step)
    for name, value in mapping.items() if isinstance(mapping, dict) else ():
        try:
            msgspec.convert(_replaced(raw, steps, {name: value}), type_)
        except msgspec.ValidationError as found:
            if str(found) == str(error):
                return str(name)
    return None


def _replaced(value: Any, steps: list[Step], by: Any) -> Any:
    if not steps:
        return by
    first, *rest = steps
    copy = value.copy()
    copy[first] = _replaced(value[first], rest, by)
    return copy


def _child(value: Any, step: Step) -> Any:
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None


def _line(node: yaml.Node, steps: tuple[Step, ...]) -> int:
    """Where a value stands, counted from 1; where its nearest parent does, if it is not there."""
    for step in steps:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            continue
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        children = {name.value: child for name, child in entries}
        if step not in children:
            break
        node = children[step]
    return int(node.start_mark.line) + 1
