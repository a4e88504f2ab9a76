"""A Service's ports: the application protocol, and the port of a pod that is meant."""

from agent.model.objects import Pod, ServicePort
from protocols.workload_pb2 import AppProtocol

_BY_NAME = {
    "http": AppProtocol.HTTP11,
    "http2": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    **dict.fromkeys(("https", "tls"), AppProtocol.TLS),
    **dict.fromkeys(("tcp", "mongo", "mysql", "redis"), AppProtocol.TCP),
}
_KUBERNETES = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
# On these the server speaks first, so that nothing can be told from the bytes: TCP unless it is declared.
_SERVER_FIRST = frozenset({25, 53, 3306, 27017})


def app_protocol(port: ServicePort) -> AppProtocol:
    """`appProtocol`, else what stands before the first `-` of the port's name; unknown when neither says."""
    declared = _KUBERNETES.get(port.app_protocol, port.app_protocol) or port.name
    known = _BY_NAME.get(declared.lower().split("-", maxsplit=1)[0])
    if known is None:
        return AppProtocol.TCP if port.port in _SERVER_FIRST else AppProtocol.UNKNOWN
    return known


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """The number of the container port; None when it goes by a name that this pod does not have.

    Containers, and init containers that stay (`restartPolicy: Always`), are searched.
    """
    if not isinstance(port.target_port, str):
        return port.target_port or port.port
    staying = tuple(c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *staying):
        for candidate in container.ports:
            if candidate.name == port.target_port and candidate.protocol == port.protocol:
                return candidate.container_port
    return None


def tcp_ports(ports: tuple[ServicePort, ...]) -> list[ServicePort]:
    """The ports that the mesh carries."""
    return [port for port in ports if port.protocol == "TCP"]
