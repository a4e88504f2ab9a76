"""The Gateway API's GRPCRoute."""

import re
from typing import Annotated, Any, Literal

import msgspec

from agent.model.schema.gateway.base import (
    MOST_MATCHES,
    BackendRef,
    Filter,
    Hostnames,
    ParentRefs,
    Route,
    SectionName,
    ValueMatch,
    check_filters,
    check_parents,
    check_values,
)
from agent.model.schema.http_values import check_regex
from agent.model.schema.istio.base import Strict
from agent.model.schema.syntax import FieldError

_SERVICE = re.compile(r"\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*", re.IGNORECASE | re.ASCII)
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Filters = Annotated[tuple[Filter, ...], msgspec.Meta(max_length=16)]
_ONCE = ("RequestHeaderModifier", "ResponseHeaderModifier")


class GrpcMethodMatch(Strict, frozen=True):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: _Text | None = None
    method: _Text | None = None

    def __post_init__(self) -> None:
        if self.service is None and self.method is None:
            raise FieldError("service or method is needed")
        exact = self.type == "Exact"
        for text, field, form in ((self.service, "service", _SERVICE), (self.method, "method", _METHOD)):
            if text is not None and exact and not form.fullmatch(text):
                raise FieldError(f"{text!r} is no gRPC {field}'s name", field)
            if text and not exact:
                check_regex(text, field)


class GrpcRouteMatch(Strict, frozen=True):
    method: GrpcMethodMatch | None = None
    headers: Annotated[tuple[ValueMatch, ...], msgspec.Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        check_values(self.headers, "headers")


class GrpcBackendRef(BackendRef, frozen=True):
    filters: _Filters = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_filters(self.filters, _ONCE)


class GrpcRouteRule(Strict, frozen=True):
    """session_persistence: of the experimental channel; not acted on."""

    name: SectionName | None = None
    matches: Annotated[tuple[GrpcRouteMatch, ...], msgspec.Meta(max_length=64)] = ()
    filters: _Filters = ()
    backend_refs: Annotated[tuple[GrpcBackendRef, ...], msgspec.Meta(max_length=16)] = ()
    session_persistence: Any = None

    def __post_init__(self) -> None:
        check_filters(self.filters, _ONCE)


class GrpcRouteSpec(Strict, frozen=True):
    parent_refs: ParentRefs = ()
    hostnames: Hostnames = ()
    rules: Annotated[tuple[GrpcRouteRule, ...], msgspec.Meta(max_length=16)] = ()
    use_default_gateways: str = ""

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)
        if sum(len(rule.matches) for rule in self.rules) > MOST_MATCHES:
            raise FieldError(f"more than {MOST_MATCHES} matches in all; write two routes", "rules")


class GRPCRoute(Route, frozen=True, kw_only=True):
    spec: GrpcRouteSpec
