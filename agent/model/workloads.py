"""What all `istio.workload.Workload` messages have in common, field for field as istiod does it."""

from collections.abc import Mapping, Sequence

from agent.model.mesh import REDIRECTION
from agent.model.objects import IPAddress, Labels, Object
from agent.model.resources import Resource, address_resource
from agent.model.view import View
from protocols.workload_pb2 import (
    HBONE,
    HOST_NETWORK,
    Address,
    Locality,
    PortList,
    Workload,
)

WORKLOAD_NAME = "service.istio.io/workload-name"
TUNNEL = "networking.istio.io/tunnel"
_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


def new_workload(view: View, uid: str, item: Object, services: Mapping[str, PortList]) -> Workload:
    """What an object says. uid: without the cluster's name; services: by `namespace/hostname`."""
    mesh = view.mesh
    return Workload(
        uid=f"{mesh.cluster}/{uid}",
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


def say_how_it_is_reached(message: Workload, labels: Labels, annotations: Labels, enrolled: bool) -> None:
    """Through a tunnel that its node ends, or it itself; else plainly."""
    if enrolled or annotations.get(REDIRECTION) == "enabled":
        message.tunnel_protocol = HBONE
    if "http" in labels.get(TUNNEL, "").split(","):
        message.tunnel_protocol = HBONE
        message.native_tunnel = True


def locate(message: Workload, region: str = "", zone: str = "", subzone: str = "") -> None:
    """Where it stands, if that is known."""
    if region or zone or subzone:
        message.locality.CopyFrom(Locality(region=region, zone=zone, subzone=subzone))


def workload_resource(message: Workload, addresses: Sequence[IPAddress]) -> Resource:
    """Serialise a workload that is found by its addresses, unless it shares them."""
    message.addresses.extend(address.packed for address in addresses)
    names = tuple(f"{message.network}/{address}" for address in addresses)
    shared = message.network_mode == HOST_NETWORK
    aliases, shares = ((), names) if shared else (names, ())
    return address_resource(message.uid, Address(workload=message), aliases, shares)


def _first(labels: Labels, keys: tuple[str, ...]) -> str | None:
    return next((labels[key] for key in keys if labels.get(key)), None)
