"""How objects are shown: whole, or no more than their metadata (`PartialObjectMetadata`), always as JSON."""

from dataclasses import dataclass
from typing import Any

import msgspec

from tests.support.kubernetes.errors import Refused
from tests.support.kubernetes.kinds import Kind

_PARTIAL = "PartialObjectMetadata"
_PARTIAL_VERSION = "meta.k8s.io/v1"
_ANY = ("application/json", "*/*", "")


class _Head(msgspec.Struct):
    metadata: msgspec.Raw


_read_head = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True)
class View:
    """Turns stored bodies, which do not say what they are, into what a client sees."""

    kind: Kind
    partial: bool = False

    def one(self, body: bytes) -> bytes:
        """An object by itself."""
        if self.partial:
            return _named(_PARTIAL, _PARTIAL_VERSION, b'{"metadata":%b}' % bytes(_read_head(body).metadata))
        return _named(self.kind.name, self.kind.api_version, body)

    def list(self, metadata: dict[str, Any], bodies: list[bytes]) -> bytes:
        """A list; the items of the built-in ones do not say what they are."""
        bare = self.kind.schema is None and not self.partial
        items = b",".join(bodies if bare else map(self.one, bodies))
        rest = b'{"metadata":%b,"items":[%b]}' % (msgspec.json.encode(metadata), items)
        if self.partial:
            return _named(_PARTIAL + "List", _PARTIAL_VERSION, rest)
        return _named(self.kind.list_name or f"{self.kind.name}List", self.kind.api_version, rest)


def negotiated(kind: Kind, accept: str, verb: str) -> View:
    """The view that an Accept header asks for first. Raises Refused (406)."""
    wanted = _PARTIAL + "List" if verb == "list" else _PARTIAL
    for each in accept.split(","):
        media_type, *parameters = (part.strip() for part in each.split(";"))
        form = dict(parameter.partition("=")[::2] for parameter in parameters)
        if media_type in _ANY and form.get("as", wanted) == wanted:
            return View(kind, partial="as" in form)
    raise not_acceptable()


def not_acceptable() -> Refused:
    message = "only the following media types are accepted: application/json"
    return Refused(406, "NotAcceptable", message)


def _named(kind: str, version: str, body: bytes) -> bytes:
    return b'{"kind":"%b","apiVersion":"%b",' % (kind.encode(), version.encode()) + body[1:]
