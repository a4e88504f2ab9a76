"""What the routes of the Gateway API share: parents, backends, matches and filters.

The rules are those of its CustomResourceDefinitions, and of their CEL expressions; of two channels the more
permissive one's.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from agent.model.schema.http_values import check_regex
from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.policy import Policy
from agent.model.schema.objects import Port
from agent.model.schema.syntax import FieldError

_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KIND = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
GATEWAY = "gateway.networking.k8s.io"
ISTIO = "networking.istio.io"

Group = Annotated[str, msgspec.Meta(max_length=253, pattern=rf"^$|^{_DNS}$")]
KindName = Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=_KIND)]
ObjectName = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
NamespaceName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
SectionName = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=rf"^{_DNS}$")]
HostPattern = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=rf"^(\*\.)?{_DNS}$")]
HostName = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=rf"^{_DNS}$")]
HeaderName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$")
]
Hostnames = Annotated[tuple[HostPattern, ...], msgspec.Meta(max_length=16)]

_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")
MOST_MATCHES = 128


class ParentRef(Strict, frozen=True):
    """What a route is for. namespace: None is the route's own. section_name: a Service has none."""

    name: ObjectName
    group: Group = GATEWAY
    kind: KindName = "Gateway"
    namespace: NamespaceName | None = None
    section_name: SectionName | None = None
    port: Port | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is one of those to whom clients within the mesh speak."""
        return (self.group, self.kind) in (("", "Service"), (ISTIO, "ServiceEntry"))


ParentRefs = Annotated[tuple[ParentRef, ...], msgspec.Meta(max_length=32)]


class Parents(Strict, frozen=True):
    """What a route is for, read by itself."""

    parent_refs: ParentRefs = ()


class LocalReference(Strict, frozen=True):
    group: Group
    kind: KindName
    name: ObjectName


class ObjectReference(Strict, frozen=True):
    """An object to send to. namespace: None is the route's own."""

    name: ObjectName
    group: Group = ""
    kind: KindName = "Service"
    namespace: NamespaceName | None = None
    port: Port | None = None

    def __post_init__(self) -> None:
        if not self.group and self.kind == "Service" and self.port is None:
            raise FieldError("a Service needs one; name it", "port")


class BackendRef(ObjectReference, frozen=True):
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1


class NamedValue(Strict, frozen=True):
    name: HeaderName
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


_Named = Annotated[tuple[NamedValue, ...], msgspec.Meta(max_length=16)]


class HeaderModifier(Strict, frozen=True):
    set: _Named = ()
    add: _Named = ()
    remove: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        for field in ("set", "add"):
            check_unique((one.name for one in getattr(self, field)), field)
        check_unique(self.remove, "remove")


class Fraction(Strict, frozen=True):
    numerator: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    denominator: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 100

    def __post_init__(self) -> None:
        if self.numerator > self.denominator:
            raise FieldError("more than all; make it at most the denominator", "numerator")


class RequestMirror(Strict, frozen=True):
    backend_ref: ObjectReference
    percent: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None

    def __post_init__(self) -> None:
        if self.percent is not None and self.fraction:
            raise FieldError("percent and fraction exclude each other; keep one", "fraction")


class ValueMatch(Strict, frozen=True):
    """Of a header or a query parameter."""

    name: HeaderName
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    type: Literal["Exact", "RegularExpression"] = "Exact"


class Filter(Strict, frozen=True):
    """Filters that HTTP and gRPC have; each has the field that its type says, and no other."""

    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirror | None = None
    extension_ref: LocalReference | None = None

    def __post_init__(self) -> None:
        wanted = field_of(self.type)
        for name in self.__struct_fields__:
            if name != "type" and (getattr(self, name) is not None) != (name == wanted):
                reason = f"type {self.type} has the field {_written(wanted)}, and no other"
                raise FieldError(reason, _written(wanted if name == wanted else name))


def field_of(type_: str) -> str:
    """The field of a filter's type, in snake case."""
    if type_ in ("CORS", "URLRewrite"):
        return {"CORS": "cors", "URLRewrite": "url_rewrite"}[type_]
    return re.sub(r"(?<!^)([A-Z])", r"_\1", type_).lower()


def _written(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


class Route(Policy, frozen=True, kw_only=True):
    """What all routes have in common.

    One that is refused and never was good keeps its parents from being reached without it.
    """

    spec: Any

    @property
    def parents(self) -> tuple[ParentRef, ...]:
        parents: tuple[ParentRef, ...] = self.spec.parent_refs
        return parents

    @property
    def of_strictest(self) -> str:
        return "what it is for answers with 500, or closes connections"


def check_filters(filters: Iterable[Filter], once: tuple[str, ...]) -> None:
    """once: types of which there may be one."""
    types: list[str] = [one.type for one in filters]
    if twice := next((type_ for type_ in once if types.count(type_) > 1), None):
        raise FieldError(f"{twice} is there twice; write one with both", "filters")
    if "RequestRedirect" in types and "URLRewrite" in types:
        raise FieldError("RequestRedirect and URLRewrite exclude each other; keep one", "filters")


def check_parents(parents: Iterable[ParentRef]) -> None:
    """No two may be the same; of one object either all name sections or ports, or none does."""
    seen: dict[tuple[str, ...], list[ParentRef]] = {}
    for index, one in enumerate(parents):
        others = seen.setdefault((one.group, one.kind, one.namespace or "", one.name), [])
        for other in others:
            if other == one:
                raise FieldError(f"{one.name} is there twice; write it once", "parentRefs", index)
            named = (one.section_name or one.port, other.section_name or other.port)
            if not all(named):
                reason = f"{one.name} is there as a whole as well; name sectionName or port of both, or once"
                raise FieldError(reason, "parentRefs", index)
        others.append(one)


def check_unique(names: Iterable[str], field: str) -> None:
    """No name may be there twice."""
    seen = set[str]()
    for index, name in enumerate(names):
        if name in seen:
            raise FieldError(f"{name} is there twice; write it once", field, index, "name")
        seen.add(name)


def check_values(matches: Iterable[ValueMatch], field: str) -> None:
    for index, one in enumerate(matches):
        if one.type == "RegularExpression":
            check_regex(one.value, field, index, "value")
    check_unique((one.name for one in matches), field)


def check_timeout(text: str, field: str) -> None:
    """GEP-2257: up to four numbers with h, m, s or ms."""
    if not _DURATION.fullmatch(text):
        raise FieldError(f"{text!r} is no duration such as 10s or 1m30s", field)
