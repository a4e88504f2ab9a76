"""The Gateway API's HTTPRoute."""

import re
from typing import Annotated, Any, Literal

import msgspec

from agent.model.schema.gateway.base import (
    MOST_MATCHES,
    BackendRef,
    Filter,
    HeaderName,
    HostName,
    Hostnames,
    ParentRefs,
    Route,
    SectionName,
    ValueMatch,
    check_filters,
    check_parents,
    check_timeout,
    check_values,
)
from agent.model.schema.http_values import check_regex, milliseconds
from agent.model.schema.istio.base import Strict
from agent.model.schema.objects import Port
from agent.model.schema.syntax import FieldError

_METHODS = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
_CORS_METHODS = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"]
_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
_NOT_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F", "#")
_ORIGIN = r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)"
_Origin = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=_ORIGIN)]
_Path = Annotated[str, msgspec.Meta(max_length=1024)]
_ONCE = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS")


class PathMatch(Strict, frozen=True):
    """PathPrefix: by whole segments."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: _Path = "/"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            check_regex(self.value, "value")
            return
        if not self.value.startswith("/"):
            raise FieldError(f"{self.value!r}: a path begins with /", "value")
        found = next((one for one in _NOT_IN_PATHS if one in self.value), None)
        if found or self.value.endswith(("/.", "/..")) or not _PATH.fullmatch(self.value):
            raise FieldError(f"{self.value!r} is no normalised path; write /a/b", "value")


class HttpRouteMatch(Strict, frozen=True):
    """All that it says has to be so."""

    path: PathMatch = PathMatch()
    headers: Annotated[tuple[ValueMatch, ...], msgspec.Meta(max_length=16)] = ()
    query_params: Annotated[tuple[ValueMatch, ...], msgspec.Meta(max_length=16)] = ()
    method: _METHODS | None = None

    def __post_init__(self) -> None:
        check_values(self.headers, "headers")
        check_values(self.query_params, "queryParams")


class PathModifier(Strict, frozen=True):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: _Path | None = None
    replace_prefix_match: _Path | None = None

    def __post_init__(self) -> None:
        full = self.type == "ReplaceFullPath"
        if full != (self.replace_full_path is not None) or full == (self.replace_prefix_match is not None):
            field = "replaceFullPath" if full else "replacePrefixMatch"
            raise FieldError(f"type {self.type} has the field {field}, and no other", field)


class RequestRedirect(Strict, frozen=True):
    scheme: Literal["http", "https"] | None = None
    hostname: HostName | None = None
    path: PathModifier | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class UrlRewrite(Strict, frozen=True):
    hostname: HostName | None = None
    path: PathModifier | None = None


class Cors(Strict, frozen=True):
    """max_age: seconds."""

    allow_origins: Annotated[tuple[_Origin, ...], msgspec.Meta(max_length=64)] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[tuple[_CORS_METHODS, ...], msgspec.Meta(max_length=9)] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], msgspec.Meta(max_length=64)] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], msgspec.Meta(max_length=64)] = ()
    max_age: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 5

    def __post_init__(self) -> None:
        fields = {"allowOrigins": self.allow_origins, "allowMethods": self.allow_methods}
        for field, values in (fields | {"allowHeaders": self.allow_headers}).items():
            if "*" in values and len(values) > 1:
                raise FieldError("* is all of them; it stands alone", field)
            if len({*values}) < len(values):
                raise FieldError("one is there twice; write it once", field)


class HttpFilter(Filter, frozen=True):
    type: Literal[  # type: ignore[assignment]  # it has more of them
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
    ]
    request_redirect: RequestRedirect | None = None
    url_rewrite: UrlRewrite | None = None
    cors: Cors | None = None

    @property
    def replaces_prefix(self) -> bool:
        changed = self.request_redirect or self.url_rewrite
        return bool(changed and changed.path and changed.path.replace_prefix_match is not None)


_Filters = Annotated[tuple[HttpFilter, ...], msgspec.Meta(max_length=16)]


class HttpBackendRef(BackendRef, frozen=True):
    filters: _Filters = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_filters(self.filters, _ONCE)


class Timeouts(Strict, frozen=True):
    """0s: none."""

    request: str = ""
    backend_request: str = ""

    def __post_init__(self) -> None:
        for text, field in ((self.request, "request"), (self.backend_request, "backendRequest")):
            if text:
                check_timeout(text, field)
        whole = milliseconds(self.request) if self.request else 0
        if whole and self.backend_request and milliseconds(self.backend_request) > whole:
            raise FieldError("longer than request; make it shorter", "backendRequest")


class HttpRetry(Strict, frozen=True):
    """codes: HTTP statuses after which it is tried again."""

    codes: tuple[Annotated[int, msgspec.Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    backoff: str = ""

    def __post_init__(self) -> None:
        if self.backoff:
            check_timeout(self.backoff, "backoff")


class HttpRouteRule(Strict, frozen=True):
    """retry and session_persistence: of the experimental channel; the latter is not acted on."""

    name: SectionName | None = None
    matches: Annotated[tuple[HttpRouteMatch, ...], msgspec.Meta(max_length=64)] = ()
    filters: _Filters = ()
    backend_refs: Annotated[tuple[HttpBackendRef, ...], msgspec.Meta(max_length=16)] = ()
    timeouts: Timeouts = Timeouts()
    retry: HttpRetry | None = None
    session_persistence: Any = None

    def __post_init__(self) -> None:
        check_filters(self.filters, _ONCE)
        if self.backend_refs and self.find("RequestRedirect"):
            raise FieldError("RequestRedirect sends to no backend; remove them", "backendRefs")
        filters = (*self.filters, *(one for ref in self.backend_refs for one in ref.filters))
        if any(one.replaces_prefix for one in filters) and not self._has_one_prefix:
            raise FieldError("ReplacePrefixMatch needs one match, by PathPrefix", "matches")

    @property
    def _has_one_prefix(self) -> bool:
        return not self.matches or [one.path.type for one in self.matches] == ["PathPrefix"]

    def find(self, type_: str) -> HttpFilter | None:
        """Its first filter of a type."""
        return next((one for one in self.filters if one.type == type_), None)


class HttpRouteSpec(Strict, frozen=True):
    """hostnames: for gateways; within the mesh a request is a service's by its address."""

    parent_refs: ParentRefs = ()
    hostnames: Hostnames = ()
    rules: Annotated[tuple[HttpRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)] = (
        HttpRouteRule(),
    )
    use_default_gateways: str = ""

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)
        if sum(max(1, len(rule.matches)) for rule in self.rules) > MOST_MATCHES:
            raise FieldError(f"more than {MOST_MATCHES} matches in all; write two routes", "rules")


class HTTPRoute(Route, frozen=True, kw_only=True):
    spec: HttpRouteSpec
