"""List and watch of one kind as a state machine without I/O: answers in, objects out.

The rules are Kubernetes' own: "API concepts", on detection of changes, chunked lists, bookmarks and 410 Gone,
and that the resource versions of a kind grow. A server whose version is lower than one that it has told was
restored from a backup. It would let a watch go on in silence until it is that far again, so that before each
watch its version is asked for.
"""

import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct

from agent.kube.depth import shallow
from agent.kube.errors import ApiError, refused

T = TypeVar("T")

_PAGE = 500  # objects of one answer
WENT_BACK = "WentBack"  # an error's reason: the server's data are older than what it has told


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
Request = Literal["list", "check", "watch"]


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
        self._checked = False  # that the server is not behind that version
        self._server = ""  # the version at which it was then

    def __len__(self) -> int:
        """How many objects are known."""
        return len(self._names)

    @property
    def next(self) -> Request:
        """What the next request is: a page of a list, one for the server's version, or a watch."""
        if not self._version:
            return "list"
        return "watch" if self._checked else "check"

    @property
    def caught_up(self) -> bool:
        """Whether all has been told that had happened when the server's version was asked for."""
        return not self._server or _is_older(self._server, self._version) or self._server == self._version

    def query(self) -> dict[str, str]:
        """Of the next request."""
        if self.next == "list":
            return {"limit": str(_PAGE)} | ({"continue": self._continue} if self._continue else {})
        if self.next == "check":
            return {"limit": "1"}  # a consistent read that costs the same however many there are
        return {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": self._version}

    def page(self, body: bytes) -> Iterator[Event]:
        """Take the answer to a list's request. Raises ApiError, as `check` and `line` do."""
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
            self._version, self._server, self._checked = page.metadata.resource_version, "", True
            yield Listed()

    def check(self, body: bytes) -> None:
        """Take the answer to a request for the server's version."""
        version = _decoded(_list, body).metadata.resource_version
        self._compare(version)
        self._server, self._checked = version, True

    def line(self, line: bytes) -> Iterator[Event]:
        """Take a line of a watch."""
        event = _decoded(_line, line)
        if event.type == "ERROR":
            raise refused("watch", bytes(event.object))
        name, version = _identify(event.object)
        self._compare(version)
        if event.type == "DELETED":
            self._names.discard(name)
            yield Gone(name)
        elif event.type in ("ADDED", "MODIFIED"):
            self._names.add(name)
            yield Put(name, event.object)
        self._version = version or self._version

    def ended(self) -> None:
        """Take it that a watch has ended as it should: it goes on."""
        self._checked = False

    def failed(self, error: ApiError) -> None:
        """Take it that the last request failed: it is repeated, or all is listed again."""
        # A watch that may not be made goes on where it was, once it may.
        anew = error.status in (400, 404, 410) or (error.status == 403 and self.next == "list")
        # What a silent watch did not tell nobody knows, nor what a server tells that is behind.
        anew = anew or error.reason in ("Malformed", "Silent", WENT_BACK)
        if anew or "Too large resource version" in str(error):
            self.restart()
        self._checked = False

    def restart(self) -> None:
        """List all again; what is known stays until that is done."""
        self._version = self._continue = ""
        self._listed.clear()

    def _compare(self, version: str) -> None:
        if _is_older(version, self._version):
            text = f"the server is at resourceVersion {version}, and has told of {self._version}"
            raise ApiError(0, WENT_BACK, f"{text}: was it restored from a backup?")


def _is_older(version: str, than: str) -> bool:
    """Whether it is, as far as that can be told."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


def _identify(raw: Raw) -> tuple[Name, str]:
    """Name and version of an object; empty where it has none that can be read."""
    try:
        metadata = _decoded(_head, raw).metadata
    except ApiError:
        return Name("", ""), ""
    return Name(sys.intern(metadata.namespace), metadata.name), metadata.resource_version


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes | Raw) -> T:
    try:
        try:
            return decoder.decode(text)
        except RecursionError:
            return decoder.decode(shallow(bytes(text)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Malformed", f"an answer that is not Kubernetes' JSON: {error}") from error
