"""Gateways of the Gateway API with the routes that attach to them -> servers, by port."""

from collections.abc import Iterator

from agent.model.engine.view import View
from agent.model.schema.gateway.base import Route
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.kubernetes import Pod
from agent.model.translation.gateways.attachments import Place, attached_to, gateways_of, places
from agent.model.translation.gateways.server import Connections, Server


def servers(view: View, pod: Pod) -> Iterator[tuple[int, Server]]:
    """Each with the port that it is for."""
    for gateway in gateways_of(view, pod):
        for place in places(view, gateway):
            if found := _server(place):
                for route, hosts in attached_to(view, place):
                    _attach(found, route, hosts)
                yield place.listener.port, found


def _server(place: Place) -> Server | None:
    """Without the routes that attach to it; None: it cannot be served."""
    listener = place.listener
    if listener.protocol == "HTTP":
        return Server(place.name)
    if listener.protocol == "TCP":
        return Server(place.name, connections=Connections(by_sni=False))
    if listener.protocol == "TLS" and listener.tls and listener.tls.mode == "Passthrough":
        return Server(place.name, [listener.hostname or "*"], connections=Connections(by_sni=True))
    return None


def _attach(server: Server, route: Route, hosts: tuple[str, ...]) -> None:
    match route:
        case HTTPRoute() | GRPCRoute():
            for host in hosts:
                server.requests[host].routes.append(route)
        case TLSRoute() if server.connections:
            server.connections.tls.append(route)
        case TCPRoute() if server.connections:
            server.connections.tcp.append(route)
