"""What all `istio.workload.Workload` messages have in common, field for field as istiod does it."""

from collections.abc import Mapping, Sequence

from agent.model.engine.view import View
from agent.model.mesh import REDIRECTION, Mesh
from agent.model.resources import ADDRESS, Resource, Template, address_resource, templated_resource
from agent.model.schema.istio.workload_entry import EndpointSpec
from agent.model.schema.objects import IPAddress, Key, Labels, Object
from protocols.workload_pb2 import (
    HBONE,
    HOST_NETWORK,
    POD,
    Address,
    PortList,
    Workload,
)

WORKLOAD_NAME = "service.istio.io/workload-name"
TUNNEL = "networking.istio.io/tunnel"
NO_ADDRESS = "no address: the endpoint is behind a network gateway, which this version does not support"
_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def uid_of(mesh: Mesh, group: str, key: Key) -> str:
    """The uid of the workload that an object of a group is, and what those begin with that it has in it."""
    return f"{mesh.cluster}/{group}/{key.kind}/{key.namespace}/{key.name}"


def may_make(group: str, mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Whether a resource is of a workload that an object is, or has in it."""
    return type_url == ADDRESS and f"{name}/".startswith(f"{uid_of(mesh, group, key)}/")


def new_workload(view: View, uid: str, item: Object, services: Mapping[str, PortList]) -> Workload:
    """What an object says. services: by `namespace/hostname`."""
    mesh = view.mesh
    return Workload(
        uid=uid,
        name=item.metadata.name,
        namespace=item.metadata.namespace,
        network=view.network,
        trust_domain="" if mesh.trust_domain == "cluster.local" else mesh.trust_domain,
        cluster_id=mesh.cluster,
        services=services,
    )


def identify(message: Workload, service_account: str, workload_name: str, labels: Labels) -> None:
    """Who it is, for its peers and for telemetry."""
    message.service_account = "" if service_account == "default" else service_account
    message.workload_name = workload_name
    message.canonical_name = _first(labels, _NAME) or workload_name
    message.canonical_revision = _first(labels, _REVISION) or "latest"


def tell_labels(view: View, message: Workload, labels: Labels) -> None:
    """Those that a DestinationRule or VirtualService asks for."""
    message.labels.update({name: value for name, value in labels.items() if view.is_asked(name)})


def say_how_it_is_reached(
    message: Workload, labels: Labels, annotations: Labels, enrolled: bool, native: bool = False
) -> None:
    """Through a tunnel that its node ends, or (native) it itself; else plainly."""
    if enrolled or annotations.get(REDIRECTION) == "enabled":
        message.tunnel_protocol = HBONE
    if native or "http" in labels.get(TUNNEL, "").split(","):
        message.tunnel_protocol = HBONE
        message.native_tunnel = True


def locate(message: Workload, region: str = "", zone: str = "", subzone: str = "") -> None:
    """Where it stands, if that is known."""
    if region or zone or subzone:
        locality = message.locality
        locality.region, locality.zone, locality.subzone = region, zone, subzone


def workload_resource(told: Address, addresses: Sequence[IPAddress]) -> Resource:
    """Serialise a workload that is found by its addresses, unless it shares them."""
    message = told.workload
    message.addresses.extend(address.packed for address in addresses)
    return address_resource(message.uid, told, *_found_by(message, addresses))


def templated_workload(
    name: str, template: Template, own: Address, addresses: Sequence[IPAddress]
) -> Resource:
    """The same of one that is like others. name: its uid; own: what is its own of it."""
    own.workload.addresses.extend(address.packed for address in addresses)
    return templated_resource(name, template, own, *_found_by(template.workload, addresses))


def _found_by(message: Workload, addresses: Sequence[IPAddress]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Aliases, and names that it shares."""
    names = tuple(f"{message.network}/{address}" for address in addresses)
    return ((), names) if message.network_mode == HOST_NETWORK else (names, ())


def _first(labels: Labels, keys: tuple[str, ...]) -> str | None:
    return next((labels[key] for key in keys if labels.get(key)), None)


def outside_workload(message: Workload, endpoint: EndpointSpec) -> Resource:
    """Serialise what a WorkloadEntry and an endpoint that is written into a ServiceEntry have in common."""
    ip = endpoint.ip
    message.workload_type = POD
    message.network = endpoint.network or message.network
    locate(message, *endpoint.locality.split("/")[:3])
    if endpoint.weight:
        message.capacity.value = endpoint.weight
    if ip is None:
        message.hostname = endpoint.address
    return workload_resource(Address(workload=message), () if ip is None else (ip,))
