"""One gateway's pod -> all that it listens on."""

from collections.abc import Iterator
from itertools import chain

from agent.model.engine.view import View
from agent.model.mesh import is_gateway
from agent.model.resources import Resource, listeners_resource
from agent.model.schema.kubernetes import Pod, Service
from agent.model.schema.objects import Key
from agent.model.translation.gateways import istio, kubernetes
from agent.model.translation.gateways.attachments import judged, places_of
from agent.model.translation.gateways.server import Server
from agent.model.translation.gateways.topology import topology
from agent.model.translation.ports import number_of, of_pod, tcp_ports
from agent.model.translation.routes.client import Client
from protocols import routes_pb2 as pb

HBONE = 15008  # the gateway's own


def translate(view: View, key: Key) -> Iterator[Resource]:
    """Of a gateway without Gateways too: it waits for the word."""
    pod = view.store.get(Pod, key.namespace, key.name)
    if pod is None or not is_gateway(pod):
        return
    client = Client(key.namespace, tuple(sorted(pod.metadata.labels.items())))
    before = topology(pod)
    trusted, heads = before.num_trusted_proxies, before.proxy_protocol is not None
    message = pb.GatewayListeners(namespace=key.namespace, pod=key.name, trusted_proxies=trusted)
    taken = dict[int, int]()
    by_port, conflicts = _by_port(view, pod)
    for port, servers in sorted(by_port.items()):
        bind = _bound_port(view, pod, port)
        if (other := taken.setdefault(bind, port)) == port and bind != HBONE:
            told = [one.message(view, client, port) for one in servers]
            message.listeners.add(port=port, bind=bind, servers=told, proxy_protocol=heads)
        else:
            has = "what comes through tunnels" if bind == HBONE else f"port {other}"
            conflicts.append(f"port {port}: port {bind} of the pod is for {has}")
    for place, conflict in judged(places_of(view, pod)):
        conflicts += [f"{place.name}: {conflict.reason}: {conflict.message}"] if conflict else []
    message.conflicts.extend(conflicts)
    yield listeners_resource(message)


def _by_port(view: View, pod: Pod) -> tuple[dict[int, list[Server]], list[str]]:
    """What several Gateways say of one port is one listener's, spoken as the oldest says; and conflicts."""
    found: dict[int, list[Server]] = {}
    conflicts = []
    for port, server in chain(istio.servers(view, pod), kubernetes.servers(view, pod)):
        known = found.setdefault(port, [])
        if not known or _may_join(known, server):
            _join(known, server)
        else:
            conflicts.append(f"{server.name}: port {port} is spoken otherwise by {known[0].name}")
    return found, conflicts


def _may_join(known: list[Server], server: Server) -> bool:
    """Requests in plain text, else all by their SNI."""
    if known[0].is_plain or server.is_plain:
        return known[0].is_plain and server.is_plain
    return bool(known[0].sni_hosts and server.sni_hosts)


def _join(known: list[Server], server: Server) -> None:
    """Of hosts that are there already what is bound to them comes together."""
    if known and server.is_plain:
        for host, requests in server.requests.items():
            known[0].requests[host].extend(requests)
        return
    taken = {host for one in known for host in one.sni_hosts}
    server.sni_hosts = [host for host in server.sni_hosts if host not in taken]
    if server.sni_hosts or not known:
        known.append(server)


def _bound_port(view: View, pod: Pod, port: int) -> int:
    """The pod's own, where a Service maps this one to another."""
    target = of_pod(pod)
    for item, _ in view.services_of(pod.metadata.namespace, pod.metadata.labels):
        for one in tcp_ports(item) if isinstance(item, Service) else ():
            if number_of(one) == port and (own := target(one)):
                return own
    return port
