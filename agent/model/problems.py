"""What its author should know of an object that is in force: where it does not do what it says."""

from collections.abc import Iterator
from functools import partial

from agent.model import authentication, policies, traffic
from agent.model.entries import RESOLVED, ServiceEntry, WorkloadEntry
from agent.model.objects import Namespace, Object, Pod, Service, key_of
from agent.model.security import AuthorizationPolicy, PeerAuthentication
from agent.model.sidecar import Sidecar
from agent.model.view import ServiceLike, View
from agent.model.visibility import exported_to

WAYPOINT = "istio.io/use-waypoint"


def problem_of(view: View, item: Object) -> str:
    """One line; empty when all is as it should be."""
    if isinstance(item, Pod):  # of which there are most, and nothing to say
        return ""
    return "; ".join(_problems(view, item))


def _problems(view: View, item: Object) -> Iterator[str]:
    if isinstance(item, Namespace | ServiceLike | WorkloadEntry):
        waypoint = item.metadata.labels.get(WAYPOINT, "none")
        if waypoint != "none":
            yield f"label {WAYPOINT}: {waypoint} is passed over, this version has no waypoints"
    if isinstance(item, ServiceLike):
        yield from _taken_hosts(view, item)
        yield from _shared_addresses(view, item)
        yield from _visibility(item)
    if isinstance(item, Service) and item.spec.session_affinity == "ClientIP":
        yield "sessionAffinity: ClientIP is passed over: each connection has an endpoint of its own"
    if isinstance(item, ServiceEntry):
        yield from _names(item)
        yield from _endpoints(item)
    if isinstance(item, AuthorizationPolicy):
        yield from policies.problems(item)
    if isinstance(item, PeerAuthentication):
        yield from authentication.problems(item)
    if isinstance(item, Sidecar):
        yield from traffic.problems(view, item)
    if isinstance(item, WorkloadEntry) and item.spec.ip is None:
        yield _unreachable(item.spec.address)


def _taken_hosts(view: View, item: ServiceLike) -> Iterator[str]:
    for host in view.claims(item):
        owner = view.owner(host, item.metadata.namespace)
        if owner is not item:
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
        if first is not item:
            where = "" if first.metadata.namespace == namespace else f" outside of namespace {namespace}"
            yield f"address {address} is also claimed by {key_of(first)}, which takes precedence{where}"


def _rank(view: View, item: ServiceLike) -> tuple[bool, str]:
    hosts = view.hosts(item)
    return min((not view.canonical(item, host), f"{item.metadata.namespace}/{host}") for host in hosts)


def _visibility(item: ServiceLike) -> Iterator[str]:
    wanted = exported_to(item)
    several = wanted - {"*", ".", "~", item.metadata.namespace}
    if several and "*" not in wanted:
        yield f"exportTo: {', '.join(sorted(several))} is read as *: namespaces by name are not supported"


def _names(entry: ServiceEntry) -> Iterator[str]:
    """Names are looked up by the application alone: what it gets is reached, a virtual address is not."""
    spec = entry.spec
    if spec.resolution == "DYNAMIC_DNS":
        yield "resolution DYNAMIC_DNS needs a waypoint, which this version has not: connections pass as is"
    elif spec.resolution in RESOLVED and any(map(entry.addresses_of, spec.hosts)):
        unnamed = not (spec.endpoints or spec.workload_selector)
        given = [endpoint.address for endpoint in spec.endpoints if not endpoint.ip]
        names = spec.hosts if unnamed else [address for address in given if address]
        if names:
            yield _unreachable(names[0])


def _endpoints(entry: ServiceEntry) -> Iterator[str]:
    spec = entry.spec
    if spec.resolution == "STATIC" and not spec.endpoints and not spec.workload_selector:
        yield "resolution STATIC without endpoints or a workloadSelector: connections are refused"
    addresses = [endpoint.address for endpoint in spec.endpoints]
    if "" in addresses:
        yield f"endpoints: {_unreachable('')}"
    if twice := next((one for one in addresses if one and addresses.count(one) > 1), None):
        yield f"endpoints: {twice} is there twice: the first one counts"


def _unreachable(address: str) -> str:
    if not address:
        return "without an address it is behind a network's gateway, of which this version knows none"
    return f"{address} is a name, which this version does not resolve: connections to it are refused"
