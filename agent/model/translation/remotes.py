"""Services that tunnels call themselves, for policies -> `istio.security.Remote`."""

from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.translation.ports import number_of, tcp_ports
from agent.model.translation.routes.names import resolve, visible
from protocols.security_pb2 import Remote

ASKS: Entry = ("asks a service",)  # index: policies that name one, which may come, go and change its ports


def remote(view: View, host: str, port: int, timeout: int, namespace: str) -> Remote:
    """host: as an object of a namespace has it, or `namespace/host`. timeout: in milliseconds.

    Its `problem` says why the service cannot be called.
    """
    named, _, host = host.rpartition("/")
    host = resolve(view.mesh, host, named or namespace)
    told = Remote(hostname=host, port=port, timeout_ms=timeout)
    service = visible(view, host, named or namespace)
    if service is None:
        told.problem = f"there is no Service {host}"
        return told
    told.namespace = service.metadata.namespace
    if port not in map(number_of, tcp_ports(service)):
        told.problem = f"Service {host} has no port {port}"
    return told
