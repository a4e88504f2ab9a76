"""Service and ServiceEntry -> `istio.workload.Service`, field for field as istiod does it."""

from collections.abc import Sequence

from agent.model.entries import ServiceEntry
from agent.model.objects import IPAddress, IPNetwork, Namespace, Service
from agent.model.ports import app_protocol, number_of, target_port, tcp_ports
from agent.model.resources import Resource, address_resource
from agent.model.view import ServiceLike, View
from agent.model.visibility import visibility
from protocols.workload_pb2 import AUTOMATIC, DUAL, IPV4_ONLY, IPV6_ONLY, Address, LoadBalancing
from protocols.workload_pb2 import Service as ServiceMessage

DISTRIBUTION = "networking.istio.io/traffic-distribution"
_CLOSE = (LoadBalancing.NETWORK, LoadBalancing.REGION, LoadBalancing.ZONE)
_FAILOVER = {  # Service.spec.trafficDistribution, compared without regard to case
    "preferclose": _CLOSE,
    "prefersamezone": _CLOSE,
    "prefersamenode": (*_CLOSE, LoadBalancing.SUBZONE, LoadBalancing.NODE),
}
_FAMILIES = {
    frozenset(): AUTOMATIC,
    frozenset({"IPv4"}): IPV4_ONLY,
    frozenset({"IPv6"}): IPV6_ONLY,
    frozenset({"IPv4", "IPv6"}): DUAL,
}


def services(view: View, item: ServiceLike) -> list[Resource]:
    """One for each hostname that is the object's own."""
    return [_service(view, item, host) for host in view.hosts(item)]


def _service(view: View, item: ServiceLike, host: str) -> Resource:
    namespace = item.metadata.namespace
    message = ServiceMessage(
        name=item.metadata.name,
        namespace=namespace,
        hostname=host,
        canonical=view.canonical(item, host),
        visibility=visibility(item),
        load_balancing=_load_balancing(item, view.namespace(namespace)),
    )
    if isinstance(item, Service):
        message.ip_families = _FAMILIES[item.families]
        addresses: Sequence[IPAddress | IPNetwork] = item.addresses
    else:
        message.subject_alt_names.extend(item.spec.subject_alt_names)
        addresses = item.addresses_of(host)
    for address in addresses:
        if isinstance(address, IPNetwork):
            first, length = address.network_address.packed, address.prefixlen
            message.addresses.add(network=view.network, address=first, length=length)
        else:
            message.addresses.add(network=view.network, address=address.packed)
    for port in tcp_ports(item):
        number = target_port(port) or 0  # 0: each workload says which
        message.ports.add(service_port=number_of(port), target_port=number, app_protocol=app_protocol(port))
    aliases = tuple(f"{view.network}/{address}" for address in addresses if isinstance(address, IPAddress))
    return address_resource(f"{namespace}/{host}", Address(service=message), aliases)


def _load_balancing(item: ServiceLike, namespace: Namespace | None) -> LoadBalancing | None:
    if isinstance(item, ServiceEntry):
        if item.spec.resolution == "NONE":
            return LoadBalancing(mode=LoadBalancing.PASSTHROUGH, health_policy=LoadBalancing.ALLOW_ALL)
        return _distribution(item, namespace, "")
    spec = item.spec
    if spec.internal_traffic_policy == "Local":
        result = LoadBalancing(mode=LoadBalancing.STRICT, routing_preference=[LoadBalancing.NODE])
    else:
        result = _distribution(item, namespace, spec.traffic_distribution) or LoadBalancing()
    if spec.publish_not_ready_addresses:
        result.health_policy = LoadBalancing.ALLOW_ALL
    return result if result.ByteSize() else None


def _distribution(item: ServiceLike, namespace: Namespace | None, wish: str) -> LoadBalancing | None:
    """What the object's field says, else its annotation, else its namespace's."""
    for metadata in (item.metadata, namespace and namespace.metadata):
        wish = wish or (metadata.annotations.get(DISTRIBUTION, "") if metadata else "")
    scopes = _FAILOVER.get(wish.lower())
    return LoadBalancing(mode=LoadBalancing.FAILOVER, routing_preference=scopes) if scopes else None
