"""What all objects have: a key, metadata, and the forms of their fields."""

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from agent.model.schema.sharing import shared, shared_mapping

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
NoneOrName = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Labels = Mapping[str, str]

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(r"\.".join([_OCTET] * 4))
_OF_THE_MESH = re.compile(r"istio\.io/|^warren\.dev/|^kubernetes\.io/config\.(mirror|hash)$")


class Key(NamedTuple):
    """Which object: `namespace` is empty for what lies in none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def _json_name(field: str) -> str:
    head, *rest = field.split("_")
    return head + "".join(word.title() for word in rest).replace("Ip", "IP")


class Part(Struct, frozen=True, gc=False, rename=_json_name):
    """A piece of an object. Not the collector's business: what is decoded refers to nothing above itself."""


class Owner(Part, frozen=True):
    kind: str
    name: str
    controller: bool = False


class Metadata(Part, frozen=True):
    name: Name
    namespace: NoneOrName = ""
    uid: str = ""
    labels: Labels = {}
    annotations: Labels = {}  # of the mesh
    owner_references: tuple[Owner, ...] = ()
    deletion_timestamp: str | None = None

    def __post_init__(self) -> None:
        ours = ((name, text) for name, text in self.annotations.items() if _OF_THE_MESH.search(name))
        force_setattr(self, "annotations", shared_mapping(tuple(ours)))
        force_setattr(self, "labels", shared_mapping(tuple(self.labels.items())))
        force_setattr(self, "namespace", sys.intern(self.namespace))
        force_setattr(self, "owner_references", shared(self.owner_references))


class Object(Part, frozen=True):
    """Something with a name of its own."""

    metadata: Metadata


class Condition(Part, frozen=True):
    type: str = ""
    status: str = ""


def key_of(item: Object) -> Key:
    """The key of an object whose namespace, where it has one, is filled in."""
    return Key(type(item).__name__, item.metadata.namespace, item.metadata.name)


@lru_cache(4096)  # asked when an object is decoded, and soon again when it is translated
def to_address(text: str) -> IPAddress:
    """An address in its one form: an IPv4 address mapped into IPv6 becomes IPv4. Raises ValueError."""
    if plain := _IPV4.fullmatch(text):  # as nearly all are, read in a third of the time
        a, b, c, d = plain.groups()
        return IPv4Address(int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d))
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def to_range(text: str) -> IPAddress | IPNetwork:
    """An address, or a range of them with the bits after its prefix cleared. Raises ValueError."""
    if "/" not in text:
        return to_address(text)
    network = ip_network(text, strict=False)
    return network if network.num_addresses > 1 else network.network_address


def fits(selector: Labels, labels: Labels) -> bool:
    """Whether a selector selects what has these labels. No selector selects nothing."""
    return bool(selector) and selector.items() <= labels.items()
