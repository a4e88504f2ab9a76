"""A service's ports: the application protocol, and the port of an endpoint that is meant."""

from collections.abc import Callable

from agent.model.schema.istio.service_entry import EntryPort, ServiceEntry
from agent.model.schema.istio.workload_entry import EndpointSpec
from agent.model.schema.kubernetes import EndpointSlice, Pod, Service, ServicePort
from protocols import routes_pb2
from protocols.routes_pb2 import HTTP, Protocol
from protocols.workload_pb2 import GRPC, HTTP2, HTTP11, TCP, TLS, UNKNOWN, AppProtocol, PortList

_BY_NAME = {  # of grpc-web istiod tells no protocol: it is HTTP/1.1 or HTTP/2, as the client likes
    "grpc-web": UNKNOWN,
    "http": HTTP11,
    "http2": HTTP2,
    "grpc": GRPC,
    **dict.fromkeys(("https", "tls"), TLS),
    **dict.fromkeys(("tcp", "mongo", "mysql", "redis"), TCP),
}
_ROUTED = {HTTP11: HTTP, HTTP2: routes_pb2.HTTP2, GRPC: routes_pb2.GRPC, TLS: routes_pb2.TLS}
HTTP_LIKE = (HTTP, routes_pb2.HTTP2, routes_pb2.GRPC)  # of `route_protocol`
_KUBERNETES = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
# On these the server speaks first, so that nothing can be told from the bytes: TCP unless it is declared.
_SERVER_FIRST = frozenset({25, 53, 3306, 27017})

AnyPort = ServicePort | EntryPort
Target = Callable[[AnyPort], int | None]  # the port of an endpoint; None when it does not have it


def ports_of(service: Service | ServiceEntry, target: Target) -> PortList:
    """The ports of a service that the mesh carries, as far as an endpoint has them."""
    ports = PortList()
    for port in tcp_ports(service):
        if (number := target(port)) is not None:
            ports.ports.add(service_port=number_of(port), target_port=number, app_protocol=app_protocol(port))
    return ports


def tcp_ports(service: Service | ServiceEntry) -> list[AnyPort]:
    """The ports that the mesh carries."""
    return [port for port in service.spec.ports if port.protocol.upper() not in ("UDP", "SCTP")]


def number_of(port: AnyPort) -> int:
    """The port that clients call."""
    return port.port if isinstance(port, ServicePort) else port.number


def app_protocol(port: AnyPort) -> AppProtocol:
    """What is declared, else what stands before the first `-` of a Service's port name; else unknown.

    A ServiceEntry's port says nothing by its name (Istio's ServicePort.protocol).
    """
    if isinstance(port, EntryPort):
        return _BY_NAME.get(port.protocol.lower(), UNKNOWN)
    declared = (_KUBERNETES.get(port.app_protocol, port.app_protocol) or port.name).lower()
    name = "grpc-web" if declared.startswith("grpc-web") else declared.split("-", maxsplit=1)[0]
    known = _BY_NAME.get(name)
    if known is None:
        return TCP if number_of(port) in _SERVER_FIRST else UNKNOWN
    return known


def route_protocol(port: AnyPort) -> Protocol:
    """By what its clients' requests or connections are routed: nothing is told from the bytes."""
    declared = port.protocol if isinstance(port, EntryPort) else port.app_protocol or port.name
    if declared.lower().startswith("grpc-web"):
        return HTTP
    return _ROUTED.get(app_protocol(port), routes_pb2.TCP)


def target_port(port: AnyPort) -> int | None:
    """The port of all endpoints that do not say otherwise; None when each has its own, by a name."""
    return None if isinstance(port.target_port, str) else port.target_port or number_of(port)


def of_pod(pod: Pod) -> Target:
    """A Service names the container port that it means, a ServiceEntry's port may have one's name itself."""

    def target(port: AnyPort) -> int | None:
        if isinstance(port.target_port, str):
            return _named(pod, port.target_port)
        return (_named(pod, port.name) if isinstance(port, EntryPort) else None) or target_port(port)

    return target


def of_entry(entry: EndpointSpec) -> Target:
    """Its `ports` come first: by the name of the target, else by that of the service's port."""

    def target(port: AnyPort) -> int | None:
        if isinstance(port.target_port, str):
            return entry.ports.get(port.target_port)
        return entry.ports.get(port.name) or target_port(port)

    return target


def of_slice(endpoints: EndpointSlice, own: Target | None) -> Target:
    """A slice has the port under the name of the Service's port, else it may be the endpoint's own."""
    numbers = {port.name: port.port for port in endpoints.ports if port.protocol == "TCP"}
    return lambda port: numbers.get(port.name) or (own(port) if own else None)


def _named(pod: Pod, name: str) -> int | None:
    """A TCP port of its containers, or of init containers that stay (`restartPolicy: Always`)."""
    staying = tuple(c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *staying):
        for port in container.ports:
            if port.name == name and port.protocol == "TCP":
                return port.container_port
    return None
