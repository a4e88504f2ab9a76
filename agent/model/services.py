"""Service -> `istio.workload.Service`, field for field as istiod does it."""

from agent.model.mesh import Context, Mesh
from agent.model.objects import Namespace, Service
from agent.model.ports import app_protocol, tcp_ports
from agent.model.resources import Resource, address_resource
from protocols.workload_pb2 import Address, IPFamilies, LoadBalancing
from protocols.workload_pb2 import Service as ServiceMessage

DISTRIBUTION = "networking.istio.io/traffic-distribution"
_CLOSE = (LoadBalancing.NETWORK, LoadBalancing.REGION, LoadBalancing.ZONE)
_FAILOVER = {  # Service.spec.trafficDistribution, compared without regard to case
    "preferclose": _CLOSE,
    "prefersamezone": _CLOSE,
    "prefersamenode": (*_CLOSE, LoadBalancing.SUBZONE, LoadBalancing.NODE),
}
_FAMILIES = {
    frozenset[str](): IPFamilies.AUTOMATIC,
    frozenset({"IPv4"}): IPFamilies.IPV4_ONLY,
    frozenset({"IPv6"}): IPFamilies.IPV6_ONLY,
    frozenset({"IPv4", "IPv6"}): IPFamilies.DUAL,
}


def service_name(service: Service, mesh: Mesh) -> str:
    """The resource's name, `namespace/hostname`."""
    return f"{service.metadata.namespace}/{_hostname(service, mesh)}"


def translate_service(service: Service, context: Context) -> Resource | None:
    """The resource of a Service; None for an ExternalName, which is only a DNS record."""
    if service.spec.type == "ExternalName":
        return None
    message = ServiceMessage(
        name=service.metadata.name,
        namespace=service.metadata.namespace,
        hostname=_hostname(service, context.mesh),
        canonical=True,
        ip_families=_FAMILIES[frozenset(service.spec.ip_families)],
        load_balancing=_load_balancing(service, context.namespace),
    )
    for address in service.addresses:
        message.addresses.add(network=context.network, address=address.packed)
    for port in tcp_ports(service.spec.ports):
        target = port.target_port
        number = 0 if isinstance(target, str) else target or port.port  # 0: each workload says which
        message.ports.add(service_port=port.port, target_port=number, app_protocol=app_protocol(port))
    aliases = tuple(f"{context.network}/{address}" for address in service.addresses)
    return address_resource(service_name(service, context.mesh), Address(service=message), aliases)


def _hostname(service: Service, mesh: Mesh) -> str:
    return f"{service.metadata.name}.{service.metadata.namespace}.svc.{mesh.domain}"


def _load_balancing(service: Service, namespace: Namespace | None) -> LoadBalancing | None:
    spec = service.spec
    wish = spec.traffic_distribution or service.metadata.annotations.get(DISTRIBUTION)
    if wish is None and namespace:
        wish = namespace.metadata.annotations.get(DISTRIBUTION)
    result = LoadBalancing()
    if spec.internal_traffic_policy == "Local":
        result.mode = LoadBalancing.STRICT
        result.routing_preference.append(LoadBalancing.NODE)
    elif scopes := _FAILOVER.get((wish or "").lower()):
        result.mode = LoadBalancing.FAILOVER
        result.routing_preference.extend(scopes)
    if spec.publish_not_ready_addresses:
        result.health_policy = LoadBalancing.ALLOW_ALL
    return result if result.ByteSize() else None
