"""The Gateway API's routes -> rules of `warren.routes`, for one scope and port, in their precedence."""

from collections.abc import Iterable, Iterator, Sequence

from agent.model.schema.gateway import http_route as schema
from agent.model.schema.gateway.base import BackendRef, Filter, HeaderModifier, NamedValue, Route
from agent.model.schema.gateway.grpc_route import GrpcBackendRef, GRPCRoute, GrpcRouteMatch, GrpcRouteRule
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.http_values import milliseconds
from agent.model.schema.objects import key_of
from agent.model.translation.routes.backends import InvalidBackend, backend
from agent.model.translation.routes.changes import (
    DEFAULT_CONDITIONS,
    authority,
    default_retry,
    header_changes,
    parts,
    retry,
)
from agent.model.translation.routes.destinations import Destinations, Unroutable
from agent.model.translation.routes.gateway_matches import HttpLike, Match, http_match, precedence
from agent.model.translation.routes.names import specificity
from agent.model.translation.routes.parents import seniority
from protocols import routes_pb2 as pb

HttpRouteRule = schema.HttpRouteRule | GrpcRouteRule

_INVALID = 500
_ATTEMPTS = 2  # where `retry` says nothing
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ANY_ORIGIN = r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+"
ON_BACKENDS = frozenset({"RequestHeaderModifier", "ResponseHeaderModifier"})


class GatewayRules:
    """Those of routes, for the clients of one scope that call one port."""

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._view = destinations.view

    def http(self, routes: Iterable[HttpLike]) -> list[pb.HttpRule]:
        """One for each match, since each has a precedence of its own."""
        found = [
            ((precedence(match), seniority(route), place), self._http(route, rule, match))
            for route in routes
            for place, rule in enumerate(_rules(route))
            for match in map(http_match, _matches(route, rule))
        ]
        return [rule for _, rule in sorted(found, key=lambda pair: pair[0])]

    def tls(self, routes: Iterable[TLSRoute]) -> list[pb.TlsRule]:
        """The most specific name first."""
        found = [(host, route) for route in routes for host in route.spec.hostnames]
        ordered = sorted(found, key=lambda pair: (_less_specific(pair[0]), seniority(pair[1])))
        return [
            pb.TlsRule(
                origin=str(key_of(route)),
                matches=[pb.TlsMatch(sni_hosts=[host])],
                destinations=self._l4(route),
            )
            for host, route in ordered
        ]

    def tcp(self, routes: Sequence[TCPRoute]) -> list[pb.TcpRule]:
        """The oldest route counts alone."""
        return [pb.TcpRule(origin=str(key_of(route)), destinations=self._l4(route)) for route in routes[:1]]

    def _http(self, route: HttpLike, rule: HttpRouteRule, match: pb.HttpMatch) -> pb.HttpRule:
        result = pb.HttpRule(name=rule.name or "", origin=str(key_of(route)), matches=[match])
        if any(one.type == "ExtensionRef" for one in rule.filters):
            result.respond.status = _INVALID  # what it would have done must not be left out in silence
            return result
        request, response = _modifiers(rule.filters)
        result.request.CopyFrom(_changes(request))
        result.response.CopyFrom(_changes(response))
        result.mirrors.extend(self._mirrors(route, rule.filters))
        if isinstance(rule, schema.HttpRouteRule):
            if cors := rule.find("CORS"):
                result.cors.CopyFrom(_cors(cors.cors))
            if redirect := rule.find("RequestRedirect"):
                result.redirect.CopyFrom(_redirect(redirect.request_redirect))
                return result
        result.forward.CopyFrom(self._forward(route, rule, request))
        return result

    def _forward(self, route: HttpLike, rule: HttpRouteRule, request: HeaderModifier) -> pb.Forward:
        host = authority(_literal(request.set), _literal(request.add))
        result = pb.Forward(destinations=self._shares(route, rule.backend_refs), retry=default_retry())
        if host:
            result.rewrite.authority = host
        if isinstance(rule, schema.HttpRouteRule):
            _limit(result, rule)
            if found := rule.find("URLRewrite"):
                _rewrite(result.rewrite, found.url_rewrite)
        return result

    def _shares(self, route: Route, refs: Sequence[BackendRef]) -> list[pb.Weighted]:
        """Without any share every request is answered with 500."""
        if any(ref.weight for ref in refs):
            return [self._weighted(route, ref) for ref in refs]
        return [_unroutable(_INVALID, "no backend has a weight", 1)]

    def _weighted(self, route: Route, ref: BackendRef) -> pb.Weighted:
        filters = ref.filters if isinstance(ref, schema.HttpBackendRef | GrpcBackendRef) else ()
        if found := next((one.type for one in filters if one.type not in ON_BACKENDS), None):
            return _unroutable(_INVALID, f"filter {found} of a backend is not supported", ref.weight)
        result = self._to(route, ref)
        request, response = _modifiers(filters)
        result.request.CopyFrom(_changes(request))
        result.response.CopyFrom(_changes(response))
        result.authority = authority(_literal(request.set), _literal(request.add))
        return result

    def _to(self, route: Route, ref: BackendRef) -> pb.Weighted:
        try:
            found = self._destinations.add(*backend(self._view, route, ref))
        except InvalidBackend as error:
            return _unroutable(_INVALID, str(error), ref.weight)
        except Unroutable as error:
            return _unroutable(503, str(error), ref.weight, error.flag)
        return pb.Weighted(destination=found, weight=ref.weight)

    def _l4(self, route: TCPRoute | TLSRoute) -> list[pb.Weighted]:
        refs = (ref for rule in route.spec.rules for ref in rule.backend_refs if ref.weight)
        shares = [self._to(route, ref) for ref in refs]
        return shares or [_unroutable(_INVALID, "no backend has a weight", 1)]

    def _mirrors(self, route: HttpLike, filters: Iterable[Filter]) -> Iterator[pb.Mirror]:
        """Those that lead somewhere: of others the route's status tells."""
        for mirror in filter(None, (one.request_mirror for one in filters)):
            percent = 100.0 if mirror.percent is None else float(mirror.percent)
            if mirror.fraction:
                percent = 100 * mirror.fraction.numerator / mirror.fraction.denominator
            try:
                found = self._destinations.add(*backend(self._view, route, mirror.backend_ref))
            except (InvalidBackend, Unroutable):
                continue
            if percent:
                yield pb.Mirror(destination=found, parts=parts(percent))


def _rules(route: HttpLike) -> Sequence[HttpRouteRule]:
    return route.spec.rules


def _matches(route: HttpLike, rule: HttpRouteRule) -> Sequence[Match]:
    anything: Match = GrpcRouteMatch() if isinstance(route, GRPCRoute) else schema.HttpRouteMatch()
    return rule.matches or (anything,)


def _less_specific(host: str) -> tuple[bool, int]:
    exact, length = specificity(host)
    return not exact, -length


def _modifiers(filters: Iterable[Filter]) -> tuple[HeaderModifier, HeaderModifier]:
    """Of the request, and of the response."""
    found = list(filters)
    request = next((one.request_header_modifier for one in found if one.request_header_modifier), None)
    response = next((one.response_header_modifier for one in found if one.response_header_modifier), None)
    return request or HeaderModifier(), response or HeaderModifier()


def _changes(modifier: HeaderModifier) -> pb.HeaderChanges:
    changes = header_changes(_literal(modifier.set), _literal(modifier.add), modifier.remove)
    return changes or pb.HeaderChanges()


def _literal(values: Iterable[NamedValue]) -> dict[str, str]:
    """Nothing in a value is a formatter here. Of names that differ only by case the first counts."""
    found: dict[str, str] = {}
    for one in values:
        found.setdefault(one.name.lower(), one.value.replace("%", "%%"))
    return found


def _unroutable(status: int, reason: str, weight: int, flag: str = "") -> pb.Weighted:
    return pb.Weighted(unroutable=pb.Unroutable(status=status, reason=reason, flag=flag), weight=weight)


def _limit(forward: pb.Forward, rule: schema.HttpRouteRule) -> None:
    """backendRequest is for each try."""
    whole = milliseconds(rule.timeouts.request) if rule.timeouts.request else 0
    single = milliseconds(rule.timeouts.backend_request) if rule.timeouts.backend_request else 0
    forward.timeout_ms = whole or (0 if rule.retry else single)
    if wanted := rule.retry:
        attempts = _ATTEMPTS if wanted.attempts is None else wanted.attempts
        backoff = milliseconds(wanted.backoff) if wanted.backoff else 0
        forward.ClearField("retry")
        if attempts:
            conditions = (*DEFAULT_CONDITIONS, pb.RESET)  # disconnects and timeouts, too
            forward.retry.CopyFrom(retry(attempts, conditions, wanted.codes, backoff=backoff))
    if single and forward.HasField("retry"):
        forward.retry.per_try_timeout_ms = single
    elif single:
        forward.timeout_ms = min(whole, single) or single


def _rewrite(result: pb.Rewrite, wanted: schema.UrlRewrite | None) -> None:
    if wanted is None:
        return
    result.authority = wanted.hostname or result.authority
    if wanted.path and wanted.path.replace_full_path is not None:
        result.full = wanted.path.replace_full_path
    elif wanted.path:
        result.segment_prefix = wanted.path.replace_prefix_match or ""


def _redirect(wanted: schema.RequestRedirect | None) -> pb.Redirect:
    """Without a port that of the scheme, where one is given, else that of the service."""
    wanted = wanted or schema.RequestRedirect()
    result = pb.Redirect(
        authority=wanted.hostname or "",
        scheme=wanted.scheme or "",
        port=wanted.port or _DEFAULT_PORTS.get(wanted.scheme or "", 0),
        request_port=not wanted.port and not wanted.scheme,
        status=wanted.status_code,
    )
    if wanted.path and wanted.path.replace_full_path is not None:
        result.full = wanted.path.replace_full_path
    elif wanted.path:
        result.segment_prefix = wanted.path.replace_prefix_match or ""
    return result


def _cors(wanted: schema.Cors | None) -> pb.Cors:
    wanted = wanted or schema.Cors()
    return pb.Cors(
        allow_origins=map(_origin, wanted.allow_origins),
        allow_methods=wanted.allow_methods,
        allow_headers=wanted.allow_headers,
        expose_headers=wanted.expose_headers,
        max_age=wanted.max_age,
        allow_credentials=bool(wanted.allow_credentials),
        answer_unmatched_preflights=True,
    )


def _origin(text: str) -> pb.StringMatch:
    """`*` stands for any origin that has a host, or for what is before a domain."""
    if text == "*":
        return pb.StringMatch(regex=_ANY_ORIGIN)
    if "*" not in text:
        return pb.StringMatch(exact=text)
    return pb.StringMatch(regex=".*".join(piece.replace(".", r"\.") for piece in text.split("*")))
