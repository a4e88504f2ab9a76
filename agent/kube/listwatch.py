"""List and watch of one kind as a state machine without I/O: answers in, objects out.

The rules are Kubernetes' own: "API concepts", on detection of changes, chunked lists, bookmarks and 410 Gone.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from agent.kube.depth import shallow
from agent.kube.errors import ApiError, refused

T = TypeVar("T")

_PAGE = 500  # objects of one answer


class Name(NamedTuple):
    """`namespace` is empty for what lies in none; both are, when an object does not say its name."""

    namespace: str
    name: str


class Put(NamedTuple):
    """An object is there, or is different. `raw` is its JSON, and keeps the whole answer in memory."""

    name: Name
    raw: Raw


class Gone(NamedTuple):
    """An object is not there any more."""

    name: Name


class Listed(NamedTuple):
    """All that there is has been told, and all that vanished since the last time."""


Event = Put | Gone | Listed


class _Metadata(Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Head(Struct):
    metadata: _Metadata


class _ListMetadata(Struct, rename={"go_on": "continue", "resource_version": "resourceVersion"}):
    resource_version: str
    go_on: str = ""


class _List(Struct):
    metadata: _ListMetadata
    items: list[Raw] | None


class _Line(Struct):
    type: str
    object: Raw


_list = msgspec.json.Decoder(_List)
_line = msgspec.json.Decoder(_Line)
_head = msgspec.json.Decoder(_Head)


class ListWatch:
    """What one kind's objects are, and what to ask next."""

    def __init__(self) -> None:
        self._names: set[Name] = set()
        self._listed: set[Name] = set()  # by the list that is under way
        self._continue = ""
        self._version = ""  # from which a watch goes on; empty: list first

    @property
    def listing(self) -> bool:
        """Whether the next request is a list's, else a watch's."""
        return not self._version

    def query(self) -> dict[str, str]:
        """Of the next request."""
        if self.listing:
            return {"limit": str(_PAGE)} | ({"continue": self._continue} if self._continue else {})
        return {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": self._version}

    def page(self, body: bytes) -> Iterator[Event]:
        """Take the answer to a list's request. Raises ApiError, as `line` does."""
        page = _decoded(_list, body)
        for raw in page.items or ():
            name, _ = _identify(raw)
            self._names.add(name)
            self._listed.add(name)
            yield Put(name, raw)
        self._continue = page.metadata.go_on
        if not self._continue:
            for name in self._names - self._listed:
                yield Gone(name)
            self._names, self._listed = self._listed, set()
            self._version = page.metadata.resource_version
            yield Listed()

    def line(self, line: bytes) -> Iterator[Event]:
        """Take a line of a watch."""
        event = _decoded(_line, line)
        if event.type == "ERROR":
            raise refused("watch", bytes(event.object))
        name, version = _identify(event.object)
        if event.type == "DELETED":
            self._names.discard(name)
            yield Gone(name)
        elif event.type in ("ADDED", "MODIFIED"):
            self._names.add(name)
            yield Put(name, event.object)
        self._version = version or self._version

    def failed(self, error: ApiError) -> None:
        """Take it that the last request failed: it is repeated, or all is listed again."""
        anew = error.status in (400, 403, 404, 410) or error.reason == "Malformed"
        # An etcd that was restored from a backup is behind what we have seen.
        if anew or "Too large resource version" in str(error):
            self._version = self._continue = ""
            self._listed.clear()


def _identify(raw: Raw) -> tuple[Name, str]:
    """Name and version of an object; empty where it has none that can be read."""
    try:
        metadata = _decoded(_head, raw).metadata
    except ApiError:
        return Name("", ""), ""
    return Name(metadata.namespace, metadata.name), metadata.resource_version


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes | Raw) -> T:
    try:
        try:
            return decoder.decode(text)
        except RecursionError:
            return decoder.decode(shallow(bytes(text)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Malformed", f"an answer that is not Kubernetes' JSON: {error}") from error
