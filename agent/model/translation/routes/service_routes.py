"""One hostname of a service -> its routes: of each port, what holds for which clients."""

from collections.abc import Iterator, Sequence

from agent.model.engine.view import ServiceLike, View
from agent.model.resources import Resource, routes_resource
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.objects import Key
from agent.model.translation.ports import HTTP_LIKE, AnyPort, route_protocol
from agent.model.translation.routes import scopes
from agent.model.translation.routes.client import Client
from agent.model.translation.routes.clients import clients
from agent.model.translation.routes.destinations import own_policy
from agent.model.translation.routes.policy import needs_connections, needs_requests
from agent.model.translation.routes.scopes import Target
from agent.model.translation.routes.virtual_services import hosts_under
from agent.model.translation.services import ports_of_host
from protocols import routes_pb2 as pb

L7 = "warren.dev/l7"  # annotation of a Service or Namespace: requests are looked into without rules too


def translate(view: View, key: Key) -> Iterator[Resource]:
    """The routes of one hostname, if there is something to do for any of its ports."""
    if not any(one.metadata.namespace == key.namespace for one in view.claimants(key.name)):
        return
    service = view.owner(key.name, key.namespace)
    names = hosts_under(view, key.name)
    whom = clients(view, service, [key.name, *names])
    ports = ports_of_host(view, key.name, key.namespace).items()
    found = (_port(view, Target(service, key.name, number), port, whom, names) for number, port in ports)
    if told := [port for port in found if port]:
        yield routes_resource(pb.ServiceRoutes(namespace=key.namespace, hostname=key.name, ports=told))


def _port(
    view: View, target: Target, port: AnyPort, whom: Sequence[Client], names: Sequence[str]
) -> pb.PortRoutes | None:
    """None: connections are forwarded, and no more. names: those under the service's wildcard."""
    protocol = route_protocol(port)
    dynamic = isinstance(target.service, ServiceEntry) and target.service.spec.is_dynamic
    policies = [own_policy(view, client, *target) for client in whom]
    if protocol in HTTP_LIKE:
        found = {client: scopes.http(view, client, target) for client in whom}
        named = {name: {client: scopes.http(view, client, target, name) for client in whom} for name in names}
        named = {name: one for name, one in named.items() if _is_routed(one)}
        if (
            named
            or dynamic
            or _is_routed(found)
            or _is_annotated(view, target.service)
            or any(map(needs_requests, policies))
        ):
            hosts = [pb.NamedHost(host=name, scopes=_told(one)) for name, one in named.items()]
            return pb.PortRoutes(port=target.port, protocol=protocol, scopes=_told(found), hosts=hosts)
        protocol = pb.HTTP
    found = {client: scopes.connections(view, client, target, protocol) for client in whom}
    if dynamic or _is_routed(found) or any(map(needs_connections, policies)):
        protocol = pb.TCP if protocol == pb.HTTP else protocol
        return pb.PortRoutes(port=target.port, protocol=protocol, scopes=_told(found))
    return None


def _is_routed(found: dict[Client, scopes.Scope]) -> bool:
    return any(one.routed for one in found.values())


def _told(found: dict[Client, scopes.Scope]) -> Iterator[pb.Scope]:
    """Without scopes that say what a wider one behind them says; each with its condition."""
    for client, scope in found.items():
        wider = found[Client(client.namespace) if client.labels else Client()]
        if client == Client() or scope.message != wider.message:
            message = pb.Scope()
            message.CopyFrom(scope.message)
            message.namespaces.extend([client.namespace] if client.namespace else ())
            message.labels.update(dict(client.labels))
            yield message


def _is_annotated(view: View, service: ServiceLike) -> bool:
    namespace = view.namespace(service.metadata.namespace)
    texts = [item.metadata.annotations.get(L7) for item in (service, namespace) if item]
    return next((text == "true" for text in texts if text is not None), False)
