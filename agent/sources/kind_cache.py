"""The objects of one kind as an API server told them: decoded, checked, and those not in force named."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec
from msgspec.structs import force_setattr

from agent.kube.listwatch import Event, Gone, Name, Put
from agent.model.engine.kind import Kind
from agent.model.engine.refusal import last_good, standing, strictest
from agent.model.schema.gateway.base import Route
from agent.model.schema.objects import Key, Object
from agent.sources import documents
from agent.sources.documents import Refused
from agent.sources.parent_status import Said, told

CONDITION = "warren.dev/Accepted"  # in the status of objects of which we had something to say

log = logging.getLogger(__name__)

T = TypeVar("T")

_MARK = CONDITION.encode()
_NOT_ENFORCED = "not enforced by this version of Warren: the object has no effect"
_WHOM = {"selector", "workloadSelector", "targetRef", "targetRefs"}  # fields that say for whom an object is

Change = tuple[Key, Object | None]  # None: the object is gone


class Verdict(NamedTuple):
    """Why an object is not in force. generation: of the object, 0 if unknown.

    reason: `Invalid`, `NotEnforced`, or `PartlyInForce` for one that is, but does not all that it says.
    """

    reason: str
    message: str
    generation: int


class Told(NamedTuple):
    """What our condition in an object's status says: for which generation, and which there is now."""

    reason: str
    message: str
    observed: int
    generation: int


class _Condition(msgspec.Struct, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Metadata(msgspec.Struct):
    generation: int = 0


class _Head(msgspec.Struct):
    metadata: _Metadata


class _Specified(msgspec.Struct):
    spec: dict[str, msgspec.Raw] | None = None


class _Whole(_Head):
    status: _Status | None = None


class KindCache:
    """What there is of a kind. An invalid object keeps its last good version in force, a policy that has none
    its strictest reading.

    verdicts: of objects that are not in force as they stand. told: what our condition in their status says;
    parents: what our entries in a route's status say.
    judged: how often a verdict changed. listed: whether all have been told once.
    """

    def __init__(self, kind: Kind, noticed: Callable[[Key], None] = lambda key: None) -> None:
        """noticed: an object has another verdict, or its status says something else."""
        self.kind = kind
        self._noticed = noticed
        self.verdicts: dict[Name, Verdict] = {}
        self.told: dict[Name, Told] = {}
        self.parents: dict[Name, frozenset[Said]] = {}
        self.judged = 0
        self.listed = False
        self._objects: dict[Name, Object] = {}
        self._decoder = msgspec.json.Decoder(kind.struct) if kind.struct else None

    def take(self, events: Iterable[Event]) -> Iterator[Change]:
        """What is different now, object by object."""
        for event in events:
            if isinstance(event, Put):
                yield from self._put(event)
            elif isinstance(event, Gone):
                yield from self._remove(event.name)
            else:
                self.listed = True

    def clear(self) -> Iterator[Change]:
        """Take it that all objects are gone."""
        for name in {*self._objects, *self.verdicts}:
            yield from self._remove(name)

    def key(self, name: Name) -> Key:
        return Key(self.kind.name, *name)

    def _put(self, event: Put) -> Iterator[Change]:
        name, text = event.name, bytes(event.raw)
        if self.has_parents:
            self._notice_parents(name, text)
        if self._decoder is None:
            self._judge(name, Verdict("NotEnforced", _not_enforced(text), _generation(text)), _told(text))
            return
        former, verdict = self._objects.get(name), None
        try:
            item: Object | None = documents.decode(text, self._decoder, self.key(name))
            if item and item.metadata.name == name.name:  # one string for the object, its key and its list
                force_setattr(item.metadata, "name", name.name)
        except Refused as refused:
            item = self._held(name, text, str(refused))
            verdict = Verdict("Invalid", f"{refused}{standing(item)}", _generation(text))
        changed = former != item
        if item is not None and changed:  # of two that are equal the model has the former
            self._objects[name] = item
        self._judge(name, verdict, _told(text))
        if changed:
            yield self.key(name), item

    @property
    def has_parents(self) -> bool:
        """Whether its objects' status has conditions for each parent."""
        return self.kind.struct is not None and issubclass(self.kind.struct, Route)

    def _notice_parents(self, name: Name, text: bytes) -> None:
        """A new route has a status to be written, although nothing is wrong with it."""
        former, now = self.parents.get(name), told(text)
        self.parents[name] = now
        if former != now:
            self._noticed(self.key(name))

    def _held(self, name: Name, text: bytes, reason: str) -> Object | None:
        """What is in force of an object that is refused."""
        good = last_good(self._objects.get(name), reason)
        if good or not name.name:
            return good
        return strictest(self.kind, self.key(name), documents.readable(text), reason)

    def _remove(self, name: Name) -> Iterator[Change]:
        self._judge(name, None, None)
        self.parents.pop(name, None)
        if self._objects.pop(name, None) is not None:
            yield self.key(name), None

    def _judge(self, name: Name, verdict: Verdict | None, told: Told | None) -> None:
        former, said = self.verdicts.pop(name, None), self.told.pop(name, None)
        if verdict:
            self.verdicts[name] = verdict
            if verdict.reason == "Invalid" and (former is None or former.message != verdict.message):
                item = self._objects.get(name)
                kept = "; a good version stays in force" if item and not standing(item) else ""
                log.warning("rejected %s: %s%s", self.key(name), verdict.message, kept)
        if told:
            self.told[name] = told
        if former != verdict:
            self.judged += 1
        if former != verdict or said != told:
            self._noticed(self.key(name))


def _not_enforced(text: bytes) -> str:
    """With the fields that are written."""
    read = _decoded(text, _Specified)
    fields = [f"spec.{name}" for name in sorted(((read and read.spec) or {}).keys() - _WHOM)]
    return ": ".join((_NOT_ENFORCED, ", ".join(fields))) if fields else _NOT_ENFORCED


def _generation(text: bytes) -> int:
    head = _decoded(text, _Head)
    return head.metadata.generation if head else 0


def _told(text: bytes) -> Told | None:
    whole = _decoded(text, _Whole) if _MARK in text else None
    for one in (whole and whole.status and whole.status.conditions) or ():
        if whole and one.type == CONDITION:
            # Another status than False is not ours: whatever it says is to be written anew.
            reason = one.reason if one.status == "False" else ""
            return Told(reason, one.message, one.observed_generation, whole.metadata.generation)
    return None


def _decoded(text: bytes, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
