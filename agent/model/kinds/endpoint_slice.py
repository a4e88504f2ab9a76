"""EndpointSlice -> `istio.workload.Workload` for each endpoint that is no pod."""

from collections.abc import Iterator
from functools import partial

from agent.model.engine.invalidation import of_slice
from agent.model.engine.kind import DISCOVERY, Descriptor
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.resources import Resource
from agent.model.schema.kubernetes import EndpointSlice
from agent.model.schema.objects import key_of, to_address
from agent.model.translation.services import slice_services
from agent.model.translation.workloads import may_make, new_workload, uid_of, workload_resource
from protocols.workload_pb2 import HOST_NETWORK, UNHEALTHY, Address

_GROUP, _ = DISCOVERY


def _index(item: EndpointSlice) -> Iterator[Entry]:
    if item.service:
        yield "slices", item.metadata.namespace, item.service


def _translate(view: View, endpoints: EndpointSlice) -> Iterator[Resource]:
    """The resources of a slice's endpoints that are no pods; of several with one address, the first one's.

    Nothing is known of them but how to reach them. The addresses may be others' as well, so they name none.
    """
    services = slice_services(view, endpoints)
    told = set()
    for endpoint in endpoints.endpoints if services else ():
        addresses = [to_address(text) for text in endpoint.addresses]
        if addresses and addresses[0] not in told:
            told.add(addresses[0])
            uid = f"{uid_of(view.mesh, _GROUP, key_of(endpoints))}/{addresses[0]}"
            message = new_workload(view, uid, endpoints, services)
            message.network_mode = HOST_NETWORK
            if not endpoint.conditions.ready:
                message.status = UNHEALTHY
                message.draining = endpoint.conditions.draining
            yield workload_resource(Address(workload=message), addresses)


KIND = Descriptor(
    "EndpointSlice",
    *DISCOVERY,
    "endpointslices",
    EndpointSlice,
    critical=True,  # as Services
    endpoints=True,
    index=_index,
    dependants=of_slice,
    translate=_translate,
    may_make=partial(may_make, _GROUP),
)
