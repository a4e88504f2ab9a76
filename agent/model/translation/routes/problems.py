"""What the authors of routes and rules should know, although these are in force."""

from collections.abc import Iterable, Iterator

from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.base import Route
from agent.model.schema.istio.destination_rule import DestinationRule
from agent.model.schema.istio.gateway import Gateway
from agent.model.schema.istio.http_rule import HttpMatch, HttpRule
from agent.model.schema.istio.route_values import Destination
from agent.model.schema.istio.string_match import StringMatch
from agent.model.schema.istio.traffic_policy import LoadBalancer, PortPolicy, TrafficPolicy
from agent.model.schema.istio.virtual_service import TlsRule, VirtualService
from agent.model.schema.objects import key_of
from agent.model.translation.ports import route_protocol
from agent.model.translation.routes import status
from agent.model.translation.routes.bound import bound_to
from agent.model.translation.routes.client import Client
from agent.model.translation.routes.delegates import delegate_of, hosts_of
from agent.model.translation.routes.destinations import Destinations, Unroutable, rules_for
from agent.model.translation.routes.names import WILDCARD, resolve, routes_of, wildcards_over
from agent.model.translation.routes.parents import ROUTES_OF
from agent.model.translation.routes.virtual_services import destinations_of, part_of
from agent.model.translation.services import ports_of_host
from protocols import routes_pb2 as pb

_HTTP = (pb.HTTP, pb.HTTP2, pb.GRPC)
_ALL_PATHS = (StringMatch(prefix="/"), StringMatch(prefix=""), StringMatch(regex=".*"), StringMatch())


def of_route(view: View, item: Route) -> Iterator[str]:
    """What its status says of its parents, in words."""
    yield from dict.fromkeys(status.problems(view, item))


def of_virtual_service(view: View, item: VirtualService) -> Iterator[str]:
    yield from _gateways(view, item)
    if item.spec.in_mesh:
        yield from _hosts(view, item)
    yield from _unreachable(item.spec.http)
    destinations = Destinations(view, Client(item.metadata.namespace))
    for index, rule in enumerate(item.spec.http):
        yield from (f"http[{index}]: {text}" for text in _http(destinations, item, rule))
    for l4 in item.spec.l4:
        wanted = (one.destination for one in l4.route)
        name = "tls" if isinstance(l4, TlsRule) else "tcp"
        yield from (f"{name}: {text}" for text in _missing(destinations, item, wanted))


def _gateways(view: View, item: VirtualService) -> Iterator[str]:
    for namespace, name in bound_to(item):
        if not view.store.get(Gateway, namespace, name):
            yield f"gateways: there is no Gateway {namespace}/{name}; nothing listens for it yet"


def _hosts(view: View, item: VirtualService) -> Iterator[str]:
    for written in item.spec.hosts:
        host = resolve(view.mesh, written, item.metadata.namespace)
        services = [(name, one) for name in (host, *wildcards_over(host)) for one in view.claimants(name)]
        known = services or (host.startswith(WILDCARD) and any(routes_of(view, host)))
        if not known:
            yield f"hosts: {host} is no service of the mesh; its rules have no effect yet"
        for name, service in services:
            yield from _of_service(view, item, service, name)


def _of_service(view: View, item: VirtualService, service: ServiceLike, host: str) -> Iterator[str]:
    ports = ports_of_host(view, host, service.metadata.namespace).values()
    protocols = set(map(route_protocol, ports))
    if item.spec.http and not protocols.intersection(_HTTP):
        yield (
            f"hosts: {host} has no HTTP port, so that http has no effect; "
            "set a port's appProtocol, or begin its name with http"
        )
    if routes := sorted(map(str, view.store.find(ROUTES_OF, *key_of(service)))):
        yield f"hosts: for {host}, {routes[0]} takes precedence where it applies"


def _unreachable(rules: Iterable[HttpRule]) -> Iterator[str]:
    """Istio's IST0130."""
    caught = ""
    for index, rule in enumerate(rules):
        if caught:
            yield f"http[{index}] is never reached: {caught} matches everything"
        elif not rule.match or any(map(_matches_everything, rule.match)):
            caught = f"http[{index}]"


def _matches_everything(match: HttpMatch) -> bool:
    return match.uri in (None, *_ALL_PATHS) and match in (
        HttpMatch(name=match.name, uri=match.uri, stat_prefix=match.stat_prefix),
        HttpMatch(name=match.name, uri=match.uri, stat_prefix=match.stat_prefix, ignore_uri_case=True),
    )


def _http(destinations: Destinations, item: VirtualService, rule: HttpRule) -> Iterator[str]:
    yield from _missing(destinations, item, destinations_of(rule))
    if rule.delegate and not delegate_of(destinations.view, item, rule):
        name = f"{rule.delegate.namespace or item.metadata.namespace}/{rule.delegate.name}"
        yield f"delegate: {name} is no VirtualService without hosts that is for here; the rule is left out"
    if rule.redirect and rule.redirect.redirect_code not in (0, 301, 302, 303, 307, 308):
        yield f"redirect: code {rule.redirect.redirect_code} is not supported, 301 is sent"
    if rule.fault and rule.fault.delay and not (rule.fault.delay.percentage or rule.fault.delay.percent):
        yield "fault.delay: without percentage nothing is delayed"
    if abort := rule.fault and rule.fault.abort:
        if not abort.percentage:
            yield "fault.abort: without percentage nothing is aborted"
        if abort.http_status is None and abort.grpc_status is None:
            yield "fault.abort: without httpStatus or grpcStatus nothing is aborted"


def _missing(
    destinations: Destinations, item: VirtualService, wanted: Iterable[Destination]
) -> Iterator[str]:
    """Those that answer with 503. destinations: of clients of the rule's own namespace."""
    view = destinations.view
    for one in wanted:
        host = resolve(view.mesh, one.host, item.metadata.namespace)
        if host in hosts_of(view, item):
            called = wildcards_over(host) if item.spec.in_mesh else ("",)
            host = next(filter(None, (part_of(view, host, name) for name in called)), host)
        try:
            destinations.named(host, one.subset, one.port_number, one.port_number or _first_port(view, host))
        except Unroutable as error:
            yield f"{error}; its share is answered with 503"


def _first_port(view: View, host: str) -> int:
    """A port that may stand for the one that clients call."""
    namespaces = (one.metadata.namespace for one in view.claimants(host))
    return next((number for name in namespaces for number in ports_of_host(view, host, name)), 0)


def of_destination_rule(view: View, item: DestinationRule) -> Iterator[str]:
    namespace = item.metadata.namespace
    host = resolve(view.mesh, item.spec.host, namespace)
    if not host.startswith(WILDCARD) and not any(view.claimants(host)):
        yield f"host: {host} is no service of the mesh; the rule has no effect yet"
    yield from _merged(view, item, host)
    for place, policy in _policies(item):
        yield from (f"{place}: {text}" for text in _policy(policy))


def _merged(view: View, item: DestinationRule, host: str) -> Iterator[str]:
    """Of several for one host the oldest's policies count."""
    rules = rules_for(view, Client(item.metadata.namespace, tuple(item.selector.items())), "", host).rules
    if item not in rules:
        return
    older = rules[: rules.index(item)]
    first = next((rule for rule in older if rule.spec.traffic_policy), None)
    if item.spec.traffic_policy and first:
        yield f"trafficPolicy: ignored, that of {key_of(first)} takes precedence (oldest wins)"
    known = {subset.name for rule in older for subset in rule.spec.subsets}
    for subset in item.spec.subsets:
        if subset.name in known:
            yield f"subsets: {subset.name} is ignored, an older rule for the host has one of this name"


def _policies(item: DestinationRule) -> Iterator[tuple[str, TrafficPolicy | PortPolicy]]:
    wholes = [("trafficPolicy", item.spec.traffic_policy)]
    wholes += [(f"subset {subset.name}", subset.traffic_policy) for subset in item.spec.subsets]
    for place, policy in wholes:
        if policy:
            yield place, policy
            for one in policy.port_level_settings:
                yield f"{place} of port {one.port.number if one.port else 0}", one


def _policy(policy: TrafficPolicy | PortPolicy) -> Iterator[str]:
    if policy.load_balancer:
        yield from _load_balancer(policy.load_balancer, policy.outlier_detection is not None)
    http = policy.connection_pool and policy.connection_pool.http
    if http and http.http2_keep_alive:
        yield "connectionPool.http.http2KeepAlive is not enforced"
    if policy.outlier_detection and policy.outlier_detection.consecutive_errors:
        yield "outlierDetection.consecutiveErrors has no effect; use consecutive5xxErrors"


def _load_balancer(balancer: LoadBalancer, ejects: bool) -> Iterator[str]:
    for name, value in (
        ("backendUtilization", balancer.backend_utilization),
        ("zoneAwareLbSetting", balancer.zone_aware_lb_setting),
    ):
        if value:
            yield f"loadBalancer.{name} is not enforced"
    setting = balancer.locality_lb_setting
    if setting and (setting.failover or setting.failover_priority) and not ejects:
        yield "loadBalancer.localityLbSetting: failover has no effect without outlierDetection"
