"""What holds for some clients of one port of a service: `warren.routes.Scope`."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.istio.virtual_service import VirtualService
from agent.model.schema.objects import key_of
from agent.model.translation.routes import virtual_services
from agent.model.translation.routes.changes import default_retry
from agent.model.translation.routes.client import Client
from agent.model.translation.routes.destinations import Destinations, Unroutable
from agent.model.translation.routes.gateway_matches import HttpLike
from agent.model.translation.routes.gateway_routes import GatewayRules
from agent.model.translation.routes.parents import for_port
from protocols import routes_pb2 as pb

_UNREACHABLE = 503


class Target(NamedTuple):
    """A port of a service, by one of its hostnames."""

    service: ServiceLike
    host: str
    port: int

    def parts(self, view: View) -> list[ServiceLike]:
        """The objects that are the service, the first of which is `service`."""
        return view.parts(self.host, self.service.metadata.namespace)


class Scope:
    """routed: whether somebody's rules are in it, and not the service's own default alone."""

    def __init__(self, routed: bool, make: Callable[[], pb.Scope]) -> None:
        self.routed, self._make = routed, make

    @cached_property
    def message(self) -> pb.Scope:
        """Made when it is asked for: of most services there is nothing to tell."""
        return self._make()


def http(view: View, client: Client, target: Target, named: str = "") -> Scope:
    """By requests. A route of the Gateway API comes before VirtualServices.

    named: the host that they name, where the service's is a wildcard over it.
    """
    destinations = Destinations(view, client)
    types: tuple[type[HttpLike], ...] = (HTTPRoute, GRPCRoute)
    routes = for_port(view, client, target.parts(view), target.port, types)
    rules: Sequence[pb.HttpRule]
    if routes:
        rules = GatewayRules(destinations).http(one for one in routes if type(one) is type(routes[0]))
    else:
        items = virtual_services.of_host(view, client, named or target.host)
        rules = list(_virtual(destinations, target).http(items))
    grpc = bool(routes) and isinstance(routes[0], GRPCRoute)

    def message() -> pb.Scope:
        return pb.Scope(
            http=rules if routes or rules else [_forward(destinations, target)],
            unmatched=pb.UNIMPLEMENTED if grpc else pb.NOT_FOUND,
            destinations=destinations.messages,
        )

    return Scope(bool(routes or rules), message)


def connections(view: View, client: Client, target: Target, protocol: pb.Protocol) -> Scope:
    """By connections: those of TLS by their SNI first. What no VirtualService matches goes to the service."""
    destinations = Destinations(view, client)
    tls, tcp = _l4_routes(view, client, target, protocol)
    if tls or tcp:
        gateway = GatewayRules(destinations)
        by_sni, others = [*gateway.tls(tls)], [*gateway.tcp(tcp)]
    else:
        items = virtual_services.of_host(view, client, target.host) if protocol != pb.HTTP else []
        rules = _virtual(destinations, target)
        is_tls = protocol == pb.TLS
        by_sni = [*rules.tls([*_under(view, client, target.host), *items])] if is_tls else []
        others = [*rules.tcp(items)]

    def message() -> pb.Scope:
        own = [] if tls or tcp else [pb.TcpRule(destinations=[_itself(destinations, target)])]
        return pb.Scope(tls=by_sni, tcp=[*others, *own], destinations=destinations.messages)

    return Scope(bool(by_sni or others), message)


def _virtual(destinations: Destinations, target: Target) -> virtual_services.Rules:
    return virtual_services.Rules(destinations, target.port, wildcard=target.host)


def _under(view: View, client: Client, wildcard: str) -> Iterable[VirtualService]:
    """Those for names under a wildcard: which of them is meant the SNI says."""
    hosts = virtual_services.hosts_under(view, wildcard)
    found = (item for host in hosts for item in virtual_services.of_host(view, client, host))
    return {key_of(item): item for item in found}.values()


def _l4_routes(
    view: View, client: Client, target: Target, protocol: pb.Protocol
) -> tuple[list[TLSRoute], list[TCPRoute]]:
    if protocol == pb.HTTP:
        return [], []
    by_sni = (
        for_port(view, client, target.parts(view), target.port, (TLSRoute,)) if protocol == pb.TLS else []
    )
    return by_sni, for_port(view, client, target.parts(view), target.port, (TCPRoute,))


def _forward(destinations: Destinations, target: Target) -> pb.HttpRule:
    forward = pb.Forward(destinations=[_itself(destinations, target)], retry=default_retry())
    return pb.HttpRule(forward=forward)


def _itself(destinations: Destinations, target: Target) -> pb.Weighted:
    try:
        return pb.Weighted(destination=destinations.add(*target), weight=1)
    except Unroutable as error:
        unroutable = pb.Unroutable(status=_UNREACHABLE, flag=error.flag, reason=str(error))
        return pb.Weighted(unroutable=unroutable, weight=1)
