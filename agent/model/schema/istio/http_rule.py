"""A VirtualService's HTTP rules (Istio's HTTPRoute)."""

import base64
import binascii
from http import HTTPStatus
from typing import Annotated, Literal, TypeAlias

import msgspec

from agent.model.schema.http_values import (
    check_duration,
    check_durations,
    check_header_name,
    check_operation,
    check_operations,
    check_regex,
    check_substitution,
    is_authority,
)
from agent.model.schema.istio.base import Strict
from agent.model.schema.istio.fault import Fault, Percent, check_percentage, check_status
from agent.model.schema.istio.route_values import (
    Destination,
    Uint32,
    Weight,
    check_gateways,
    check_port,
    check_source,
    check_weights,
)
from agent.model.schema.istio.string_match import PRESENT, StringMatch, check_each
from agent.model.schema.objects import Labels
from agent.model.schema.syntax import FieldError, Step

_CLAIMS = "@request.auth.claims"
_PSEUDO_HEADERS = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CORS_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
)
_RETRY_ON = frozenset(
    {
        *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx"),
        *("refused-stream", "retriable-status-codes", "retriable-headers", "envoy-ratelimited"),
        *("http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal", "resource-exhausted"),
        "unavailable",
    }
)
_LARGEST_BODY = 2**20
Octets: TypeAlias = bytes


class HttpMatch(Strict, frozen=True):
    """All that it says has to be so. headers and without_headers: names in lower case, {}: it is there."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = msgspec.field(default_factory=dict)
    without_headers: dict[str, StringMatch] = msgspec.field(default_factory=dict)
    query_params: dict[str, StringMatch] = msgspec.field(default_factory=dict)
    ignore_uri_case: bool = False
    port: Uint32 = 0
    source_labels: Labels = msgspec.field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    stat_prefix: str = ""

    def __post_init__(self) -> None:
        if self.uri and self.uri.regex is not None:
            check_regex(self.uri.regex, "uri", "regex")
        for field in ("scheme", "method", "authority"):
            if match := getattr(self, field):
                match.check(field)
        check_each(self.query_params, "queryParams")
        self._check_headers()
        if self.port:
            check_port(self.port, "port")
        check_source(self.source_labels, self.source_namespace)
        check_gateways(self.gateways, "gateways")

    @property
    def claims(self) -> list[str]:
        """The claims of a request's token among headers."""
        return [name for name in (*self.headers, *self.without_headers) if _is_claim(name)]

    def _check_headers(self) -> None:
        for name in self.headers:
            _check_matched_name(name, "headers", name)
        check_each(self.headers, "headers")
        for name, match in self.without_headers.items():
            _check_matched_name(name, "withoutHeaders", name)
            if match != PRESENT:
                match.check("withoutHeaders", name)


class HeaderOperations(Strict, frozen=True):
    set: dict[str, str] = msgspec.field(default_factory=dict)
    add: dict[str, str] = msgspec.field(default_factory=dict)
    remove: tuple[str, ...] = ()

    def check(self, *steps: Step, authority: bool = False) -> None:
        check_operations(self.add, *steps, "add", authority=authority)
        check_operations(self.set, *steps, "set", authority=authority)
        for index, name in enumerate(self.remove):
            check_operation(name, *steps, "remove", index)


class Headers(Strict, frozen=True):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()

    def __post_init__(self) -> None:
        self.request.check("request", authority=True)
        self.response.check("response")

    @property
    def authorities(self) -> list[str]:
        """What the authority is to be, as often as that is written."""
        written = (*self.request.set.items(), *self.request.add.items())
        return [value for name, value in written if is_authority(name)]


class HttpDestination(Strict, frozen=True):
    destination: Destination
    weight: Weight = 0
    headers: Headers = Headers()


class Redirect(Strict, frozen=True):
    """redirect_code: 0 is 301."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    port: Uint32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: Uint32 = 0

    def __post_init__(self) -> None:
        if self.uri and self.prefix_rewrite:
            raise FieldError("uri and prefixRewrite exclude each other; keep one", "prefixRewrite")
        if self.port is not None and self.derive_port is not None:
            raise FieldError("port and derivePort exclude each other; keep one", "derivePort")
        ports = self.port is not None or self.derive_port is not None
        if not (self.uri or self.prefix_rewrite or self.authority or self.scheme or ports):
            raise FieldError("it leads nowhere; write uri, authority, scheme or port")
        if self.redirect_code and not 300 <= self.redirect_code <= 399:
            raise FieldError(f"{self.redirect_code} is no redirect; write 301, 302, ...", "redirectCode")
        if self.scheme not in ("", "http", "https"):
            raise FieldError(f"{self.scheme!r} is neither http nor https", "scheme")
        if self.port:
            check_port(self.port, "port")


class Body(Strict, frozen=True):
    """bytes: in base64."""

    string: str | None = None
    bytes: str | None = None

    def __post_init__(self) -> None:
        if self.string is not None and self.bytes is not None:
            raise FieldError("string and bytes exclude each other; keep one")
        if len(self.content) > _LARGEST_BODY:
            raise FieldError("more than 1 MiB; answer from a server")

    @property
    def content(self) -> Octets:
        if self.bytes is None:
            return (self.string or "").encode()
        try:
            return base64.b64decode(self.bytes, validate=True)
        except binascii.Error:
            raise FieldError("this is no base64", "bytes") from None


class DirectResponse(Strict, frozen=True):
    status: Uint32
    body: Body | None = None

    def __post_init__(self) -> None:
        check_status(self.status, "status")


class Delegate(Strict, frozen=True):
    """namespace: empty is that of the rule."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Strict, frozen=True):
    match: str = ""
    rewrite: str = ""

    def __post_init__(self) -> None:
        if not self.match or not self.rewrite:
            raise FieldError("match and rewrite are both needed")
        check_regex(self.match, "match")
        check_substitution(self.rewrite, self.match, "rewrite")


class Rewrite(Strict, frozen=True):
    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None

    def __post_init__(self) -> None:
        if self.uri and self.uri_regex_rewrite:
            raise FieldError("uri and uriRegexRewrite exclude each other; keep one", "uriRegexRewrite")
        if not (self.uri or self.authority or self.uri_regex_rewrite):
            raise FieldError("nothing is rewritten; write uri, uriRegexRewrite or authority")


class Retries(Strict, frozen=True):
    """retry_remote_localities, retry_ignore_previous_hosts: None, not written."""

    attempts: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    per_try_timeout: str = ""
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: str = ""

    def __post_init__(self) -> None:
        check_durations(self, per_try_timeout="perTryTimeout", backoff="backoff")
        remote = self.retry_remote_localities is not None
        if not self.attempts and (self.per_try_timeout or self.retry_on or remote):
            raise FieldError("0 switches retries off; give a number, or remove the other fields", "attempts")
        for token in self.retry_on.split(",") if self.retry_on else ():
            if token not in _RETRY_ON and not _is_known_status(token):
                raise FieldError(f"{token!r} is no condition of Envoy's, and no HTTP status", "retryOn")


class Mirror(Strict, frozen=True):
    destination: Destination
    percentage: Percent | None = None

    def __post_init__(self) -> None:
        check_percentage(self.percentage, "percentage")


class CorsPolicy(Strict, frozen=True):
    """allow_origin: deprecated, exact origins; ignored beside allow_origins."""

    allow_origins: tuple[StringMatch, ...] = ()
    allow_origin: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: str = ""
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"

    def __post_init__(self) -> None:
        for index, origin in enumerate(self.allow_origins):
            if not (origin.exact or origin.prefix or origin.regex):
                raise FieldError("write exact, prefix or regex, and not empty", "allowOrigins", index)
            origin.check("allowOrigins", index)
        for index, method in enumerate(self.allow_methods):
            if method not in _CORS_METHODS:
                raise FieldError(f"{method!r} is no method such as GET, nor *", "allowMethods", index)
        for field in ("allow_headers", "expose_headers"):
            for index, name in enumerate(getattr(self, field)):
                if name != "*":
                    check_header_name(name, "allowHeaders" if field[0] == "a" else "exposeHeaders", index)
        if self.max_age:
            check_duration(self.max_age, "maxAge", unit=1000)


class HttpRule(Strict, frozen=True):
    """match: one is enough; none: always.

    What is done is one of route, redirect, direct_response and delegate.
    """

    name: str = ""
    match: tuple[HttpMatch, ...] = ()
    route: tuple[HttpDestination, ...] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: Rewrite | None = None
    timeout: str = ""
    retries: Retries | None = None
    fault: Fault | None = None
    mirror: Destination | None = None
    mirrors: tuple[Mirror, ...] = ()
    mirror_percent: Uint32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers = Headers()

    def __post_init__(self) -> None:
        check_weights([one.weight for one in self.route], "route")
        check_durations(self, timeout="timeout")
        if (self.mirror_percent or 0) > 100:
            raise FieldError(f"{self.mirror_percent} is more than 100", "mirrorPercent")
        check_percentage(self.mirror_percentage, "mirrorPercentage")
        prefixes = all(match.uri is None or match.uri.prefix is not None for match in self.match)
        if self.redirect and self.redirect.prefix_rewrite and not prefixes:
            raise FieldError("it needs matches by uri.prefix", "redirect", "prefixRewrite")
        rewritten = [self.rewrite.authority] if self.rewrite and self.rewrite.authority else []
        if len(rewritten + self.headers.authorities) > 1:
            raise FieldError("the authority is set more than once; keep one of rewrite.authority and headers")

    def check_action(self, steps: tuple[Step, ...], *, delegate: bool) -> None:
        """What it may do. delegate: whether it is a rule of a VirtualService that others delegate to."""
        if self.delegate and delegate:
            raise FieldError("a rule that is delegated to cannot delegate on", *steps, "delegate")
        if self.delegate:
            for field in ("redirect", "route"):
                if getattr(self, field):
                    raise FieldError("a rule that delegates has none; write it there", *steps, field)
            return
        self._check_exclusive(steps)
        if self.mirror and self.mirrors:
            raise FieldError("mirror and mirrors exclude each other; keep one", *steps, "mirrors")

    def _check_exclusive(self, steps: tuple[Step, ...]) -> None:
        if not (self.redirect or self.direct_response or self.route):
            raise FieldError("nothing is done; write route, redirect or directResponse", *steps)
        answers = {"redirect": self.redirect, "directResponse": self.direct_response}
        others = {"route": self.route, "fault": self.fault, "rewrite": self.rewrite}
        for name, answer in answers.items():
            against = answers | others
            for other in against:
                if answer and other != name and against[other]:
                    raise FieldError(f"{name} and {other} exclude each other; keep one", *steps, other)

    def check_claims(self, steps: tuple[Step, ...]) -> None:
        """Claims of a token are known to gateways only."""
        for index, match in enumerate(self.match):
            if match.claims:
                reason = "claims are matched at gateways only; name them in gateways, without mesh"
                raise FieldError(reason, *steps, "match", index, "headers", match.claims[0])


def _check_matched_name(name: str, *steps: Step) -> None:
    if not _is_claim(name) and name not in _PSEUDO_HEADERS:
        check_header_name(name, *steps)


def _is_claim(name: str) -> bool:
    rest = name.removeprefix(_CLAIMS)
    return rest != name and len(rest) > 1 and rest[0] in ".["


def _is_known_status(token: str) -> bool:
    return token.isdecimal() and int(token) in set(HTTPStatus)
