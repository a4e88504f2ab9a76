"""ServiceEntry -> `istio.workload.Service` for each host, `istio.workload.Workload` for its endpoints."""

from collections.abc import Iterator
from typing import Any

from agent.model.engine.kind import NETWORKING, Descriptor, Raw, Reading
from agent.model.engine.reading import read
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.mesh import Mesh
from agent.model.resources import ADDRESS, ROUTES, Resource
from agent.model.schema import hidden
from agent.model.schema.istio.base import WorkloadSelector
from agent.model.schema.istio.service_entry import (
    RESOLVED,
    ServiceEntry,
    ServiceEntrySpec,
)
from agent.model.schema.istio.workload_entry import EndpointSpec
from agent.model.schema.objects import Key, key_of
from agent.model.translation import allotment, services, workloads
from agent.model.translation.ports import of_entry, ports_of
from agent.model.translation.routes import dependants
from agent.model.translation.workloads import (
    NO_ADDRESS,
    identify,
    new_workload,
    outside_workload,
    say_how_it_is_reached,
    tell_labels,
    uid_of,
)

_GROUP, _ = NETWORKING


def _index(item: ServiceEntry) -> Iterator[Entry]:
    yield from services.index(item)
    yield from (("host", host) for host in item.spec.hosts)
    yield from allotment.index(item)


def _dependants(view: View, item: ServiceEntry) -> Iterator[Key]:
    yield from dependants.of_service(view, item)
    yield from allotment.dependants(view, item)


def _translate(view: View, item: ServiceEntry) -> Iterator[Resource]:
    yield from services.translate(view, item)
    yield from _inline_workloads(view, item)


def _inline_workloads(view: View, entry: ServiceEntry) -> Iterator[Resource]:
    """The resources of a ServiceEntry's own endpoints; of several with one address, the first one's."""
    metadata = entry.metadata
    told = set()
    for endpoint, hosts in _inline_endpoints(view, entry):
        if endpoint.address and endpoint.address not in told:
            told.add(endpoint.address)
            ports = ports_of(entry, of_entry(endpoint))
            services = {f"{metadata.namespace}/{host}": ports for host in hosts}
            uid = f"{uid_of(view.mesh, _GROUP, key_of(entry))}/{endpoint.address}"
            message = new_workload(view, uid, entry, services)
            identify(message, endpoint.service_account, metadata.name, metadata.labels)
            tell_labels(view, message, endpoint.labels)
            say_how_it_is_reached(message, metadata.labels, metadata.annotations, enrolled=False)
            message.logical_dns = entry.spec.resolution == "DNS_ROUND_ROBIN"
            yield outside_workload(message, endpoint)


def _inline_endpoints(view: View, entry: ServiceEntry) -> list[tuple[EndpointSpec, list[str]]]:
    """The endpoints with the hostnames that they serve; none once all hostnames are other objects'.

    Where it is the hostnames themselves that are to be resolved, each is the endpoint of its own service.
    """
    hosts = list(view.hosts(entry))
    if not entry.spec.has_endpoints:
        return []
    if entry.spec.resolution in RESOLVED and not entry.spec.endpoints and not entry.spec.workload_selector:
        return [(EndpointSpec(address=host), [host]) for host in hosts]
    return [(endpoint, hosts) for endpoint in entry.spec.endpoints] if hosts else []


def _problems(view: View, item: ServiceEntry) -> Iterator[str]:
    yield from services.problems(view, item)
    yield from allotment.problems(view, item)
    yield from _endpoints(item)


def _endpoints(entry: ServiceEntry) -> Iterator[str]:
    spec = entry.spec
    if spec.resolution == "STATIC" and not spec.endpoints and not spec.workload_selector:
        yield "resolution STATIC without endpoints or a workloadSelector: connections are refused"
    addresses = [endpoint.address for endpoint in spec.endpoints]
    if "" in addresses:
        yield f"endpoints: {NO_ADDRESS}"
    if twice := next((one for one in addresses if one and addresses.count(one) > 1), None):
        yield f"endpoints: {twice} is listed twice: the first one takes precedence"


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Its hostnames may be any."""
    own = type_url in (ADDRESS, ROUTES) and name.startswith(f"{key.namespace}/")
    return own or workloads.may_make(_GROUP, mesh, key, type_url, name)


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    whom = read(spec.get("workloadSelector"), WorkloadSelector)
    strict = ServiceEntrySpec(hosts=("refused.invalid",), workload_selector=whom, export_to=("~",))
    return Reading(strict, hidden=hidden.ServiceEntry)


KIND = Descriptor(
    "ServiceEntry",
    *NETWORKING,
    "serviceentries",
    ServiceEntry,
    critical=True,
    index=_index,
    dependants=_dependants,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
    strictest=_strictest,
)
