"""Service and ServiceEntry -> `istio.workload.Service`, field for field as istiod does it."""

from collections.abc import Iterable, Iterator
from functools import partial

from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.engine.visibility import exported_to, visibility
from agent.model.resources import Resource, address_resource
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import EndpointSlice, Namespace, Service
from agent.model.schema.objects import IPAddress, IPNetwork, Object, key_of
from agent.model.translation import allotment, waypoint
from agent.model.translation.ports import (
    HTTP_LIKE,
    AnyPort,
    Target,
    app_protocol,
    number_of,
    of_slice,
    ports_of,
    route_protocol,
    target_port,
    tcp_ports,
)
from protocols import routes_pb2
from protocols.workload_pb2 import (
    AUTOMATIC,
    DUAL,
    IPV4_ONLY,
    IPV6_ONLY,
    Address,
    ByName,
    LoadBalancing,
    PortList,
)
from protocols.workload_pb2 import Port as PortMessage
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


def index(item: ServiceLike) -> Iterator[Entry]:
    """What workloads and other services look for it by."""
    yield from waypoint.index(item)
    # One label of the selector is enough to be found by; whether all fit is seen then.
    yield from (("selector", item.metadata.namespace, *label) for label in sorted(item.selector.items())[:1])
    yield from (("address", str(address)) for address in item.addresses)


def translate(view: View, item: ServiceLike) -> list[Resource]:
    """One for each hostname that is the object's own; other ServiceEntries may have a part in it."""
    namespace = item.metadata.namespace
    own = (host for host in view.claims(item) if view.owner(host, namespace) is item)
    return [_service(view, item, host, view.parts(host, namespace)) for host in own]


def _service(view: View, item: ServiceLike, host: str, parts: list[ServiceLike]) -> Resource:
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
        addresses: Iterable[IPAddress | IPNetwork] = item.addresses
    else:
        entries = [one for one in parts if isinstance(one, ServiceEntry)]
        names = (name for one in entries for name in one.spec.subject_alt_names)
        message.subject_alt_names.extend(dict.fromkeys(names))
        message.by_name.CopyFrom(_named(parts))
        given = dict.fromkeys(address for one in entries for address in one.addresses_of(host))
        addresses = given or allotment.addresses(view, item, host)
    for address in addresses:
        if isinstance(address, IPNetwork):
            first, length = address.network_address.packed, address.prefixlen
            message.addresses.add(network=view.network, address=first, length=length)
        else:
            message.addresses.add(network=view.network, address=address.packed)
    message.ports.extend(_ports(parts))
    if passed := waypoint.before(view, item, "service"):
        message.waypoint.CopyFrom(passed)
    aliases = tuple(f"{view.network}/{address}" for address in addresses if isinstance(address, IPAddress))
    return address_resource(f"{namespace}/{host}", Address(service=message), aliases)


def _named(parts: list[ServiceLike]) -> ByName:
    """The ports at which clients say the hostname that they mean."""
    protocols = {number: route_protocol(first) for number, (first, *_) in _by_number(parts).items()}
    return ByName(
        http=(number for number, protocol in protocols.items() if protocol in HTTP_LIKE),
        tls=(number for number, protocol in protocols.items() if protocol == routes_pb2.TLS),
    )


def load_balancing(view: View, item: ServiceLike) -> LoadBalancing:
    """Which endpoints a service prefers."""
    return _load_balancing(item, view.namespace(item.metadata.namespace)) or LoadBalancing()


def ports_of_host(view: View, host: str, namespace: str) -> dict[int, AnyPort]:
    """The ports of a service by their numbers; of several parts that have one the first's."""
    parts = view.parts(host, namespace)
    return {number: ports[0] for number, ports in _by_number(parts).items()}


def _by_number(parts: list[ServiceLike]) -> dict[int, list[AnyPort]]:
    ports: dict[int, list[AnyPort]] = {}
    for part in parts:
        for port in tcp_ports(part):
            ports.setdefault(number_of(port), []).append(port)
    return ports


def _ports(parts: list[ServiceLike]) -> Iterator[PortMessage]:
    """Of all parts. 0 for a target: each workload says which, or has none where its part lacks the port."""
    for number, (first, *others) in _by_number(parts).items():
        targets = {target_port(port) for port in (first, *others)}
        common = len(targets) == 1 and (len(others) + 1 == len(parts) or _is_without_endpoints(parts[0]))
        target = target_port(first) if common else None
        yield PortMessage(service_port=number, target_port=target or 0, app_protocol=app_protocol(first))


def _is_without_endpoints(item: ServiceLike) -> bool:
    return isinstance(item, ServiceEntry) and not item.spec.has_endpoints


def _load_balancing(item: ServiceLike, namespace: Namespace | None) -> LoadBalancing | None:
    if isinstance(item, ServiceEntry):
        if item.spec.passes_through:
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


def slice_services(view: View, endpoints: EndpointSlice, own: Target | None = None) -> dict[str, PortList]:
    """The Service that a slice's endpoints belong to, with the slice's ports, else an endpoint's own."""
    service = view.store.get(Service, endpoints.metadata.namespace, endpoints.service)
    if service is None:
        return {}
    ports = ports_of(service, of_slice(endpoints, own))
    return {f"{service.metadata.namespace}/{host}": ports for host in view.hosts(service)}


def problems(view: View, item: ServiceLike) -> Iterator[str]:
    """What its author should know."""
    yield from waypoint.problems(view, item)
    yield from _taken_hosts(view, item)
    yield from _shared_addresses(view, item)
    yield from _visibility(item)


def _taken_hosts(view: View, item: ServiceLike) -> Iterator[str]:
    for host in view.claims(item):
        owner, *others = view.parts(host, item.metadata.namespace)
        if all(one is not item for one in (owner, *others)):
            yield f"hosts: {host} is also claimed by {key_of(owner)}, which takes precedence"


def _shared_addresses(view: View, item: ServiceLike) -> Iterator[str]:
    """In each namespace its own service is meant, else the first: canonical ones, then by name.

    That is the tunnels' order (tunnel/src/mesh/index.rs).
    """
    namespace = item.metadata.namespace
    for address in item.addresses:
        those = view.store.each(Object, "address", str(address))
        sharing = [one for one in those if isinstance(one, ServiceLike) and view.hosts(one)]
        first = min(sharing, key=partial(_rank, view), default=item)
        if first is not item and not _is_one_with(view, item, first):
            where = "" if first.metadata.namespace == namespace else f" outside of namespace {namespace}"
            yield f"address {address} is also claimed by {key_of(first)}, which takes precedence{where}"


def _is_one_with(view: View, item: ServiceLike, other: ServiceLike) -> bool:
    """Whether both are parts of one service."""
    one_namespace = item.metadata.namespace == other.metadata.namespace
    return one_namespace and not {*view.hosts(item)}.isdisjoint(view.hosts(other))


def _rank(view: View, item: ServiceLike) -> tuple[bool, str]:
    namespace = item.metadata.namespace
    owned = ((view.owner(host, namespace), host) for host in view.hosts(item))
    return min((not view.canonical(owner, host), f"{namespace}/{host}") for owner, host in owned)


def _visibility(item: ServiceLike) -> Iterator[str]:
    wanted = exported_to(item)
    several = wanted - {"*", ".", "~", item.metadata.namespace}
    if several and "*" not in wanted:
        yield f"exportTo: {', '.join(sorted(several))} is read as *: namespaces by name are not supported"
