"""Istio's Gateways and the VirtualServices that are bound to them -> servers, by port."""

from collections.abc import Iterator

from agent.model.engine.view import View
from agent.model.schema.http_values import matches_host
from agent.model.schema.istio import gateway as schema
from agent.model.schema.istio.gateway import Gateway
from agent.model.schema.istio.virtual_service import VirtualService
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, Labels, key_of
from agent.model.translation.gateways.server import Connections, Requests, Server
from agent.model.translation.routes.bound import BOUND_TO
from agent.model.translation.routes.client import is_exported
from agent.model.translation.routes.names import resolve
from agent.model.translation.routes.virtual_services import seniority
from protocols import routes_pb2 as pb

SELECTS = ("Gateway", "selects")  # index
_VERSIONS = {"TLSV1_2": 12, "TLSV1_3": 13}


def serves(item: Gateway, labels: Labels) -> bool:
    """Whether a pod with these labels is of its gateways."""
    return item.spec.selector.items() <= labels.items()


def gateways_of(view: View, pod: Pod) -> list[Gateway]:
    """Those that a pod serves, the oldest first."""
    found = view.store.each(Gateway, *SELECTS)
    return sorted((one for one in found if serves(one, pod.metadata.labels)), key=_age)


def _age(item: Gateway) -> tuple[str, Key]:
    return item.metadata.creation_timestamp, key_of(item)


def servers(view: View, pod: Pod) -> Iterator[tuple[int, Server]]:
    """Each with the port that it is for."""
    for item in gateways_of(view, pod):
        bound = bound_services(view, item)
        for written in item.spec.servers:
            if found := _server(view, pod, item, written):
                _bind(view, found, item, written, bound)
                yield written.port.number, found


def bound_services(view: View, item: Gateway) -> list[VirtualService]:
    """The VirtualServices that are bound to it, the oldest first."""
    own = item.metadata
    found = view.store.each(VirtualService, BOUND_TO, own.namespace, own.name)
    seen = (one for one in found if is_exported(one.spec.export_to, one.metadata.namespace, own.namespace))
    return sorted(seen, key=seniority)


def _server(view: View, pod: Pod, item: Gateway, written: schema.Server) -> Server | None:
    """Without what is bound to it; None: it cannot be served."""
    name = f"{key_of(item)} {written.name or written.port.name}".strip()
    if written.port.speaks_http:
        return Server(name)
    if written.tls is None:
        return Server(name, connections=Connections(by_sni=False))
    if written.tls.mode == "PASSTHROUGH":
        return Server(name, _names(written), connections=Connections(by_sni=True))
    if written.tls.is_terminated and written.tls.credentials:
        connections = Connections(by_sni=False) if written.port.protocol.upper() == "TLS" else None
        return Server(name, _names(written), _tls(pod, written.tls), connections=connections)
    return None


def _tls(pod: Pod, written: schema.ServerTls) -> pb.ServerTls:
    """Secrets are those of the pod's namespace."""
    own = pod.metadata.namespace
    result = pb.ServerTls(
        certificates=[pb.ServerCertificate(secret=f"{own}/{name}") for name in written.credentials],
        minimum_version=_VERSIONS.get(written.min_protocol_version, 0),
        maximum_version=_VERSIONS.get(written.max_protocol_version, 0),
    )
    if written.is_mutual:
        optional = written.mode == "OPTIONAL_MUTUAL"
        result.client_certificates = pb.OPTIONAL if optional else pb.REQUIRED
        result.subject_alt_names.extend(written.subject_alt_names)
        ca = written.ca_cert_credential_name
        result.ca_source = f"{own}/{ca}" if ca else ""
    return result


def _names(written: schema.Server) -> list[str]:
    return [host.rpartition("/")[2] for host in written.hosts]


def _bind(
    view: View, server: Server, item: Gateway, written: schema.Server, bound: list[VirtualService]
) -> None:
    own = item.metadata.namespace
    if written.tls and written.tls.https_redirect and server.connections is None:
        server.requests.update((host, Requests(redirects=True)) for host in _names(written))
    for one in bound:
        hosts = list(_common_hosts(view, own, written.hosts, one))
        for host in hosts if server.connections is None else ():
            server.requests[host].virtual.add(one, (own, item.metadata.name))
            server.requests[host].redirects |= bool(written.tls and written.tls.https_redirect)
        if hosts and server.connections:
            server.connections.virtual.add(one, (own, item.metadata.name))


def _common_hosts(view: View, own: str, hosts: tuple[str, ...], item: VirtualService) -> Iterator[str]:
    """What hosts of a server and of a VirtualService have in common."""
    for written in hosts:
        namespace, _, pattern = written.rpartition("/")
        if namespace not in ("", "*") and item.metadata.namespace != (own if namespace == "." else namespace):
            continue
        for host in (resolve(view.mesh, one, item.metadata.namespace) for one in item.spec.hosts):
            if matches_host(host, pattern):
                yield host
            elif matches_host(pattern, host):
                yield pattern
