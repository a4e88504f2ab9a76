"""VirtualService -> rules of `warren.routes`, for one scope and port."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from agent.model.engine.view import View
from agent.model.schema.http_values import milliseconds
from agent.model.schema.istio import http_rule as schema
from agent.model.schema.istio.fault import GRPC_STATUSES, Delay, Fault, Percent
from agent.model.schema.istio.route_values import Destination
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.istio.string_match import PRESENT, StringMatch
from agent.model.schema.istio.virtual_service import L4Match, RouteDestination, TlsMatch, VirtualService
from agent.model.schema.objects import Key, key_of
from agent.model.translation.routes.changes import (
    authority,
    conditions,
    default_retry,
    header_changes,
    parts,
    retry,
)
from agent.model.translation.routes.client import Client, is_exported
from agent.model.translation.routes.delegates import with_delegates
from agent.model.translation.routes.destinations import Destinations, Unroutable
from agent.model.translation.routes.matches import (
    connection_match,
    http_match,
    in_mesh,
    string_match,
    tls_match,
)
from agent.model.translation.routes.names import (
    covers,
    naming,
    resolve,
    specificity,
    wildcards_over,
)
from protocols import routes_pb2 as pb

ROUTED_BY = "routed by"  # index: VirtualServices by the hosts that they are for
ROUTED_UNDER = "routed under"  # index: VirtualServices by the wildcards that cover one of their hosts

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNROUTABLE = 503

Fits: TypeAlias = Callable[[VirtualService, schema.HttpMatch | TlsMatch | L4Match], bool]


def of_host(view: View, client: Client, host: str) -> list[VirtualService]:
    """Those that hold for clients of a service, in the order in which their rules are looked at.

    Of hosts that cover the service's the most specific counts. What is for the client's namespace alone comes
    before what is for others too, then the oldest.
    """
    keys = {*naming(view, ROUTED_BY, [host])}
    named = [view.store.objects[key] for key in keys]
    known = [item for item in named if isinstance(item, VirtualService) and _holds(view, item, client, host)]
    best = max((_specificity(view, item, host) for item in known), default=None)
    counting = [item for item in known if _specificity(view, item, host) == best]
    return sorted(counting, key=lambda item: (not _is_private(item), *seniority(item)))


def hosts_under(view: View, wildcard: str) -> list[str]:
    """The hosts of VirtualServices that a service's wildcard covers, the most specific first."""
    items = view.store.each(VirtualService, ROUTED_UNDER, wildcard)
    hosts = {host for item in items for host in item.spec.hosts if wildcard in wildcards_over(host)}
    return sorted(hosts, key=lambda host: (specificity(host), host), reverse=True)


def _holds(view: View, item: VirtualService, client: Client, host: str) -> bool:
    namespace = item.metadata.namespace
    visible = is_exported(item.spec.export_to, namespace, client.namespace)
    return visible and item.spec.in_mesh and bool(_covering(view, item, host))


def _covering(view: View, item: VirtualService, host: str) -> list[str]:
    namespace = item.metadata.namespace
    written = (one for one in item.spec.hosts if covers(view.mesh, one, namespace, host))
    return [resolve(view.mesh, one, namespace) for one in written]


def _specificity(view: View, item: VirtualService, host: str) -> tuple[bool, int]:
    return max(map(specificity, _covering(view, item, host)))


def _is_private(item: VirtualService) -> bool:
    own = item.metadata.namespace
    return {own if one == "." else one for one in item.spec.export_to} == {own}


def seniority(item: VirtualService) -> tuple[str, Key]:
    """The oldest first."""
    return item.metadata.creation_timestamp, key_of(item)


class Author(NamedTuple):
    """Who has written a rule, in whose namespace its names are resolved, and the hosts that it is for.

    Those of a rule that is delegated to are the hosts of who delegates.
    """

    item: VirtualService
    hosts: Sequence[str]


class Rules:
    """Those of VirtualServices, for the clients of one scope that call one port.

    fits: whether a match may hold for them; None: they are within the mesh. wildcard: the service's hostname,
    where that is one.
    """

    def __init__(
        self, destinations: Destinations, port: int, fits: "Fits | None" = None, wildcard: str = ""
    ) -> None:
        self._destinations, self._port, self._wildcard = destinations, port, wildcard
        self._view = destinations.view
        self._fits: Fits = fits or (lambda _, match: in_mesh(match, port))

    def http(self, items: Sequence[VirtualService]) -> Iterator[pb.HttpRule]:
        for item in items:
            for owner, rule in with_delegates(self._view, item):
                matches = [one for one in rule.match if self._fits(item, one)]
                if matches or not rule.match:
                    yield self._http(Author(owner, item.spec.hosts), rule, matches)

    def tls(self, items: Sequence[VirtualService]) -> Iterator[pb.TlsRule]:
        for item in items:
            for rule in item.spec.tls:
                if matches := [tls_match(one) for one in rule.match if self._fits(item, one)]:
                    destinations = self._l4(Author(item, item.spec.hosts), rule.route)
                    yield pb.TlsRule(origin=str(key_of(item)), matches=matches, destinations=destinations)

    def tcp(self, items: Sequence[VirtualService]) -> Iterator[pb.TcpRule]:
        for item in items:
            for rule in item.spec.tcp:
                matches = [connection_match(one) for one in rule.match if self._fits(item, one)]
                if matches or not rule.match:
                    destinations = self._l4(Author(item, item.spec.hosts), rule.route)
                    yield pb.TcpRule(origin=str(key_of(item)), matches=matches, destinations=destinations)

    def _http(
        self, author: Author, rule: schema.HttpRule, matches: Sequence[schema.HttpMatch]
    ) -> pb.HttpRule:
        request, response = rule.headers.request, rule.headers.response
        result = pb.HttpRule(
            name=rule.name,
            origin=str(key_of(author.item)),
            matches=map(http_match, matches),
            request=header_changes(request.set, request.add, request.remove),
            response=header_changes(response.set, response.add, response.remove),
            fault=_fault(rule.fault),
            cors=_cors(rule.cors_policy),
            mirrors=self._mirrors(author, rule),
        )
        if rule.redirect:
            result.redirect.CopyFrom(_redirect(rule.redirect))
        elif rule.direct_response:
            body = rule.direct_response.body
            result.respond.status = rule.direct_response.status
            result.respond.body = body.content if body else b""
        else:
            result.forward.CopyFrom(self._forward(author, rule))
        return result

    def _forward(self, author: Author, rule: schema.HttpRule) -> pb.Forward:
        return pb.Forward(
            destinations=[self._weighted(author, one) for one in rule.route],
            rewrite=_rewrite(rule),
            timeout_ms=milliseconds(rule.timeout) if rule.timeout else 0,
            retry=_retry(rule.retries),
        )

    def _weighted(self, author: Author, one: schema.HttpDestination) -> pb.Weighted:
        request, response = one.headers.request, one.headers.response
        result = self._to(author, one.destination, one.weight)
        if changes := header_changes(request.set, request.add, request.remove):
            result.request.CopyFrom(changes)
        if changes := header_changes(response.set, response.add, response.remove):
            result.response.CopyFrom(changes)
        result.authority = authority(request.set, request.add)
        return result

    def _l4(self, author: Author, route: Sequence[RouteDestination]) -> list[pb.Weighted]:
        shares = route if len(route) == 1 else [one for one in route if one.weight]
        return [self._to(author, one.destination, one.weight) for one in shares]

    def _to(self, author: Author, destination: Destination, weight: int) -> pb.Weighted:
        try:
            return pb.Weighted(destination=self._find(author, destination), weight=weight)
        except Unroutable as error:
            unroutable = pb.Unroutable(status=_UNROUTABLE, flag=error.flag, reason=str(error))
            return pb.Weighted(unroutable=unroutable, weight=weight)

    def _find(self, author: Author, wanted: Destination) -> int:
        host = resolve(self._view.mesh, wanted.host, author.item.metadata.namespace)
        if host in author.hosts:
            host = part_of(self._view, host, self._wildcard) or host
        return self._destinations.named(host, wanted.subset, wanted.port_number, self._port)

    def _mirrors(self, author: Author, rule: schema.HttpRule) -> list[pb.Mirror]:
        """Those that lead somewhere: of others only their author is told."""
        result = []
        for mirror in mirrors_of(rule):
            percent = 100.0 if mirror.percentage is None else mirror.percentage.value
            try:
                found = self._find(author, mirror.destination)
            except Unroutable:
                continue
            if percent:
                result.append(pb.Mirror(destination=found, parts=parts(percent)))
        return result


def destinations_of(rule: schema.HttpRule) -> Iterator[Destination]:
    """All that a rule sends to, mirrors too."""
    yield from (one.destination for one in rule.route)
    yield from (one.destination for one in mirrors_of(rule))


def part_of(view: View, host: str, called: str = "") -> str | None:
    """The wildcard that a name means which no object has: that of the service called, or one of DYNAMIC_DNS.

    Of another one nothing tells where the name leads.
    """
    if any(view.claimants(host)):
        return None
    wildcards = (one for one in wildcards_over(host) if any(view.claimants(one)))
    return next((one for one in wildcards if one == called or _is_dynamic(view, one)), None)


def _is_dynamic(view: View, host: str) -> bool:
    return any(isinstance(one, ServiceEntry) and one.spec.is_dynamic for one in view.claimants(host))


def mirrors_of(rule: schema.HttpRule) -> Sequence[schema.Mirror]:
    """`mirror` and its percentage, or `mirrors`."""
    if rule.mirror is None:
        return rule.mirrors
    if rule.mirror_percentage or rule.mirror_percent is None:
        return [schema.Mirror(rule.mirror, rule.mirror_percentage)]
    return [schema.Mirror(rule.mirror, Percent(float(rule.mirror_percent)))]


def _rewrite(rule: schema.HttpRule) -> pb.Rewrite | None:
    request, wanted = rule.headers.request, rule.rewrite
    result = pb.Rewrite(authority=authority(request.set, request.add))
    if wanted:
        result.authority = wanted.authority or result.authority
        if wanted.uri:
            result.prefix = wanted.uri.partition("#")[0]
        elif regex := wanted.uri_regex_rewrite:
            result.regex.CopyFrom(pb.RegexRewrite(pattern=regex.match, substitution=regex.rewrite))
    return result if result != pb.Rewrite() else None


def _retry(wanted: schema.Retries | None) -> pb.Retry | None:
    if wanted is None:
        return default_retry()
    if not wanted.attempts:
        return None
    named, statuses = conditions(wanted.retry_on)
    return retry(
        wanted.attempts,
        named,
        statuses,
        per_try=milliseconds(wanted.per_try_timeout) if wanted.per_try_timeout else 0,
        backoff=milliseconds(wanted.backoff) if wanted.backoff else 0,
        avoid_previous=wanted.retry_ignore_previous_hosts is not False,
        other_priorities=bool(wanted.retry_remote_localities),
    )


def _redirect(wanted: schema.Redirect) -> pb.Redirect:
    status = wanted.redirect_code if wanted.redirect_code in _REDIRECTS else 301
    result = pb.Redirect(
        authority=wanted.authority,
        scheme=wanted.scheme,
        port=wanted.port or 0,
        request_port=wanted.derive_port == "FROM_REQUEST_PORT",
        status=status,
    )
    if wanted.uri:
        result.full = wanted.uri
    elif wanted.prefix_rewrite:
        result.prefix = wanted.prefix_rewrite
    return result


def _fault(wanted: Fault | None) -> pb.Fault | None:
    """None: nothing is injected ever. Without a percentage nothing is."""
    result = pb.Fault()
    delay, abort = (wanted.delay, wanted.abort) if wanted else (None, None)
    if delay and delay.fixed_delay and (share := _delayed(delay)):
        result.delay_parts, result.delay_ms = share, milliseconds(delay.fixed_delay)
    share = parts(abort.percentage.value) if abort and abort.percentage else 0
    if abort and share and abort.http_status is not None:
        result.abort_parts, result.http_status = share, abort.http_status
    elif abort and share and abort.grpc_status is not None:
        result.abort_parts = share
        result.grpc_status = GRPC_STATUSES.index(abort.grpc_status)
    return result if result.delay_parts or result.abort_parts else None


def _delayed(delay: Delay) -> int:
    return parts(delay.percentage.value if delay.percentage else float(max(0, delay.percent)))


def _cors(wanted: schema.CorsPolicy | None) -> pb.Cors | None:
    if wanted is None:
        return None
    listed = wanted.allow_origins or [StringMatch(exact=origin) for origin in wanted.allow_origin]
    return pb.Cors(
        allow_origins=[string_match(PRESENT if one.exact == "*" else one) for one in listed],
        allow_methods=wanted.allow_methods,
        allow_headers=wanted.allow_headers,
        expose_headers=wanted.expose_headers,
        max_age=milliseconds(wanted.max_age) // 1000 if wanted.max_age else None,
        allow_credentials=bool(wanted.allow_credentials),
        answer_unmatched_preflights=wanted.unmatched_preflights == "IGNORE",
    )
