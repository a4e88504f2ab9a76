"""Which routes of the Gateway API are for a port of a service, and why others are not."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.base import ISTIO, ParentRef, Route
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import Service
from agent.model.schema.objects import Key, key_of
from agent.model.translation.ports import AnyPort, number_of, route_protocol, tcp_ports
from agent.model.translation.routes.client import Client
from protocols import routes_pb2 as pb

R = TypeVar("R", bound=Route)

ROUTES_OF = "routes of"  # index: routes by the services that are their parents
_HTTP = frozenset({pb.HTTP, pb.HTTP2, pb.GRPC})
_PROTOCOLS: dict[type[Route], frozenset[int]] = {
    HTTPRoute: _HTTP,
    GRPCRoute: _HTTP,
    TLSRoute: frozenset({pb.TLS}),
    TCPRoute: frozenset({pb.TCP, pb.TLS}),
}


class Attachment(NamedTuple):
    """What is made of one parentRef. reason and message: of `Accepted`; ports: to which it applies."""

    ports: tuple[int, ...] = ()
    reason: str = "Accepted"
    message: str = ""


def index(item: Route) -> Iterator[Entry]:
    for parent in item.parents:
        if parent.is_service:
            yield ROUTES_OF, parent.kind, parent.namespace or item.metadata.namespace, parent.name


def parent_of(view: View, item: Route, parent: ParentRef) -> ServiceLike | None:
    """The service that a parentRef names."""
    namespace = parent.namespace or item.metadata.namespace
    if parent.group == ISTIO:
        return view.store.get(ServiceEntry, namespace, parent.name)
    return view.store.get(Service, namespace, parent.name)


def attachment(view: View, item: Route, parent: ParentRef) -> Attachment:
    """To which ports of its parent a route applies."""
    service = parent_of(view, item, parent)
    if service is None or not view.claims(service):
        return Attachment((), "NoMatchingParent", f"{parent.kind} {parent.name} is not there")
    named = [port for port in tcp_ports(service) if _is_named(port, parent)]
    if not named:
        wanted = parent.section_name or parent.port
        return Attachment((), "NoMatchingParent", f"{parent.kind} {parent.name} has no TCP port {wanted}")
    fitting = [number_of(port) for port in named if route_protocol(port) in _PROTOCOLS[type(item)]]
    if not fitting:
        return Attachment((), "UnsupportedProtocol", _no_protocol(item, named))
    return Attachment(tuple(fitting))


def _is_named(port: AnyPort, parent: ParentRef) -> bool:
    number = parent.port in (None, number_of(port))
    return number and parent.section_name in (None, port.name)


def _no_protocol(item: Route, ports: Iterable[AnyPort]) -> str:
    numbers = ", ".join(str(number_of(port)) for port in ports)
    wanted = {HTTPRoute: "http", GRPCRoute: "grpc", TLSRoute: "tls", TCPRoute: "tcp"}[type(item)]
    return (
        f"port {numbers} is not of this protocol; set its appProtocol to {wanted}, or begin its name with it"
    )


def for_port(
    view: View, client: Client, parts: Sequence[ServiceLike], port: int, types: tuple[type[R], ...]
) -> list[R]:
    """The routes of some kinds that hold for clients of a port, the oldest first.

    Those of the client's own namespace, else those of the service's (GAMMA's consumer and producer routes).
    parts: the objects that are the service; a route is for all of it, whichever it names.
    """
    keys = {route for part in parts for route in view.store.find(ROUTES_OF, *key_of(part))}
    named = (view.store.objects[route] for route in keys)
    attached = [one for one in named if isinstance(one, types) and _applies(view, one, parts, port)]
    for namespace in dict.fromkeys((client.namespace, parts[0].metadata.namespace)):
        own = [one for one in attached if one.metadata.namespace == namespace]
        if own:
            return sorted(own, key=seniority)
    return []


def _applies(view: View, item: Route, parts: Sequence[ServiceLike], port: int) -> bool:
    services = [(parent, parent_of(view, item, parent)) for parent in item.parents if parent.is_service]
    named = (parent for parent, service in services if any(service is part for part in parts))
    return any(port in attachment(view, item, parent).ports for parent in named)


def seniority(item: Route) -> tuple[str, str, Key]:
    """The oldest first, then by `namespace/name`."""
    key = key_of(item)
    return item.metadata.creation_timestamp, f"{key.namespace}/{key.name}", key
