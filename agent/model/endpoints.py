"""Endpoints that are no pods -> `istio.workload.Workload`."""

from collections.abc import Iterator

from agent.model.entries import RESOLVED, EndpointSpec, ServiceEntry, WorkloadEntry
from agent.model.guards import named_policies
from agent.model.objects import EndpointSlice, Service, to_address
from agent.model.ports import Target, of_entry, of_slice, ports_of
from agent.model.resources import Resource
from agent.model.view import View
from agent.model.workloads import (
    WORKLOAD_NAME,
    identify,
    locate,
    new_workload,
    say_how_it_is_reached,
    workload_resource,
)
from protocols.workload_pb2 import (
    HOST_NETWORK,
    POD,
    UNHEALTHY,
    PortList,
    Workload,
)

_GROUP = "istio.io/autoRegistrationGroup"


def entry_workload(view: View, entry: WorkloadEntry) -> Resource:
    """The resource of a WorkloadEntry, with the services that select it."""
    metadata, labels = entry.metadata, entry.labels
    target = of_entry(entry.spec)
    selecting = view.services_of(metadata.namespace, labels)
    services = {service: ports_of(item, target) for item, service in selecting}
    uid = f"networking.istio.io/WorkloadEntry/{metadata.namespace}/{metadata.name}"
    message = new_workload(view, uid, entry, services)
    if not entry.healthy:
        message.status = UNHEALTHY
    name = metadata.annotations.get(_GROUP) or labels.get(WORKLOAD_NAME) or metadata.name
    identify(message, entry.spec.service_account, name, labels)
    message.authorization_policies.extend(named_policies(view, entry))
    say_how_it_is_reached(message, labels, metadata.annotations, enrolled=False)
    return _outside(message, entry.spec)


def inline_workloads(view: View, entry: ServiceEntry) -> Iterator[Resource]:
    """The resources of a ServiceEntry's own endpoints; of several with one address, the first one's."""
    metadata = entry.metadata
    told = set()
    for endpoint, hosts in _inline(view, entry):
        if endpoint.address and endpoint.address not in told:
            told.add(endpoint.address)
            ports = ports_of(entry, of_entry(endpoint))
            services = {f"{metadata.namespace}/{host}": ports for host in hosts}
            uid = f"networking.istio.io/ServiceEntry/{metadata.namespace}/{metadata.name}/{endpoint.address}"
            message = new_workload(view, uid, entry, services)
            identify(message, endpoint.service_account, metadata.name, metadata.labels)
            say_how_it_is_reached(message, metadata.labels, metadata.annotations, enrolled=False)
            yield _outside(message, endpoint)


def _inline(view: View, entry: ServiceEntry) -> list[tuple[EndpointSpec, list[str]]]:
    """The endpoints with the hostnames that they serve; none once all hostnames are other objects'.

    Where it is the hostnames themselves that are to be resolved, each is the endpoint of its own service.
    """
    hosts = list(view.hosts(entry))
    if entry.spec.resolution in RESOLVED and not entry.spec.endpoints and not entry.spec.workload_selector:
        return [(EndpointSpec(address=host), [host]) for host in hosts]
    return [(endpoint, hosts) for endpoint in entry.spec.endpoints] if hosts else []


def slice_workloads(view: View, endpoints: EndpointSlice) -> Iterator[Resource]:
    """The resources of a slice's endpoints that are no pods; of several with one address, the first one's.

    Nothing is known of them but how to reach them. The addresses may be others' as well, so they name none.
    """
    namespace, name = endpoints.metadata.namespace, endpoints.metadata.name
    services = slice_services(view, endpoints)
    told = set()
    for endpoint in endpoints.endpoints if services else ():
        addresses = [to_address(text) for text in endpoint.addresses]
        if addresses and addresses[0] not in told:
            told.add(addresses[0])
            uid = f"discovery.k8s.io/EndpointSlice/{namespace}/{name}/{addresses[0]}"
            message = new_workload(view, uid, endpoints, services)
            message.network_mode = HOST_NETWORK
            if not endpoint.conditions.ready:
                message.status = UNHEALTHY
                message.draining = endpoint.conditions.draining
            yield workload_resource(message, addresses)


def slice_services(view: View, endpoints: EndpointSlice, own: Target | None = None) -> dict[str, PortList]:
    """The Service that a slice's endpoints belong to, with the slice's ports, else an endpoint's own."""
    service = view.store.get(Service, endpoints.metadata.namespace, endpoints.service)
    if service is None:
        return {}
    ports = ports_of(service, of_slice(endpoints, own))
    return {f"{service.metadata.namespace}/{host}": ports for host in view.hosts(service)}


def _outside(message: Workload, endpoint: EndpointSpec) -> Resource:
    """What a WorkloadEntry and an endpoint that is written into a ServiceEntry have in common."""
    ip = endpoint.ip
    message.workload_type = POD
    message.network = endpoint.network or message.network
    locate(message, *endpoint.locality.split("/")[:3])
    if endpoint.weight:
        message.capacity.value = endpoint.weight
    if ip is None:
        message.hostname = endpoint.address
    return workload_resource(message, () if ip is None else (ip,))
