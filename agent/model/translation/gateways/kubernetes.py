"""Gateways of the Gateway API with the routes that attach to them -> servers, by port."""

from collections.abc import Iterator

from agent.model.engine.view import View
from agent.model.schema.gateway.base import Route
from agent.model.schema.gateway.gateway import ListenerTls, ObjectNameReference, SecretReference
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.http_values import matches_host
from agent.model.schema.kubernetes import Pod
from agent.model.translation.gateways.attachments import Place, attached_to, judged, places_of
from agent.model.translation.gateways.server import Connections, Server
from agent.model.translation.policy_selection import of_gateway
from agent.model.translation.routes.backends import is_granted
from protocols import routes_pb2 as pb

# Whoever has no certificate, or one that is not valid: the latter is refused here all the same.
_CLIENTS = {"AllowValidOnly": pb.REQUIRED, "AllowInsecureFallback": pb.OPTIONAL}


def servers(view: View, pod: Pod) -> Iterator[tuple[int, Server]]:
    """Each with the port that it is for."""
    mine = [place for place, conflict in judged(places_of(view, pod)) if conflict is None]
    for place in mine:
        if found := _server(view, place):
            policies = of_gateway(view, place.gateway)
            if found.connections:
                found.connections.policies.update(policies)
            beside = _beside(place, mine) if found.is_plain else set()
            if any(matches_host(_name(place), other) for other in beside):
                found.requests[_name(place)].policies.update(policies)  # none of the wider one's routes
            narrower = {other for other in beside if matches_host(other, _name(place))}
            for route, hosts in attached_to(view, place):
                own = [host for host in hosts if not any(matches_host(host, one) for one in narrower)]
                _attach(found, route, own, policies)
            yield place.listener.port, found


def _name(place: Place) -> str:
    return place.listener.hostname or "*"


def _beside(place: Place, mine: list[Place]) -> set[str]:
    """The hostnames of other listeners of HTTP on its port.

    A request is for the listener that names its host best, and for routes of no other (Gateway API,
    `Gateway.spec.listeners`: isolation).
    """
    own = (place.listener.port, place.listener.protocol)
    return {_name(one) for one in mine if (one.listener.port, one.listener.protocol) == own} - {_name(place)}


def _server(view: View, place: Place) -> Server | None:
    """Without the routes that attach to it; None: it cannot be served."""
    listener = place.listener
    if listener.protocol == "HTTP":
        return Server(place.name)
    if listener.protocol == "TCP":
        return Server(place.name, connections=Connections(by_sni=False))
    names = [_name(place)]
    if listener.protocol == "TLS" and listener.tls and listener.tls.mode == "Passthrough":
        return Server(place.name, names, connections=Connections(by_sni=True))
    if listener.protocol in ("HTTPS", "TLS") and listener.tls and (tls := _tls(view, place, listener.tls)):
        connections = Connections(by_sni=False) if listener.protocol == "TLS" else None
        return Server(place.name, names, tls, connections=connections)
    return None


def _tls(view: View, place: Place, written: ListenerTls) -> pb.ServerTls | None:
    """None: there is no certificate that may be used, or nobody to verify clients by."""
    refs = [one for one in written.certificate_refs if certificate_problem(view, place, one) is None]
    own = place.owner.metadata.namespace
    secrets = [f"{one.namespace or own}/{one.name}" for one in refs]
    result = pb.ServerTls(certificates=[pb.ServerCertificate(secret=one) for one in secrets])
    if validation := place.gateway.spec.tls.validation(place.listener.port):
        ca = next((one for one in validation.ca_certificate_refs if _is_ca(view, place, one)), None)
        if ca is None:
            return None
        result.client_certificates = _CLIENTS[validation.mode]
        result.ca_source = f"{ca.namespace or place.gateway.metadata.namespace}/{ca.name}"
        result.ca_in_config_map = ca.kind == "ConfigMap"
    return result if secrets else None


def certificate_problem(view: View, place: Place, ref: SecretReference) -> tuple[str, str] | None:
    """Reason and message of `ResolvedRefs`, as far as the Secret itself is not looked into."""
    own = place.owner.metadata.namespace
    if (ref.group, ref.kind) != ("", "Secret"):
        return "InvalidCertificateRef", f"{ref.kind} of group {ref.group!r} is no Secret"
    if ref.namespace not in (None, own) and not is_granted(view, place.owner, ref, ref.namespace):
        message = f"Secret {ref.namespace}/{ref.name}: no ReferenceGrant of its namespace permits it to {own}"
        return "RefNotPermitted", message
    return None


def _is_ca(view: View, place: Place, ref: ObjectNameReference) -> bool:
    own = place.gateway.metadata.namespace
    known = (ref.group, ref.kind) in (("", "Secret"), ("", "ConfigMap"))
    return known and (ref.namespace in (None, own) or is_granted(view, place.gateway, ref, ref.namespace))


def _attach(server: Server, route: Route, hosts: list[str], policies: list[str]) -> None:
    match route:
        case HTTPRoute() | GRPCRoute():
            for host in hosts:
                server.requests[host].routes.append(route)
                server.requests[host].policies.update(policies)
        case TLSRoute() if server.connections:
            server.connections.tls.append(route)
        case TCPRoute() if server.connections:
            server.connections.tcp.append(route)
