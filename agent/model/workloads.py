"""Pod -> `istio.workload.Workload`, field for field as istiod does it."""

import re
from collections.abc import Iterable

from agent.model.mesh import REDIRECTION, Context, Mesh, enrolled
from agent.model.objects import Labels, Namespace, Node, Pod, Service
from agent.model.ports import app_protocol, target_port, tcp_ports
from agent.model.resources import Resource, address_resource
from agent.model.services import service_name
from protocols.workload_pb2 import (
    Address,
    Locality,
    NetworkMode,
    PortList,
    TunnelProtocol,
    Workload,
    WorkloadStatus,
    WorkloadType,
)

NETWORK = "topology.istio.io/network"
TUNNEL = "networking.istio.io/tunnel"
TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
_TEMPLATE_HASH = "pod-template-hash"
_MINUTE = re.compile(r"^\d{8,10}$")


def workload_uid(pod: Pod, mesh: Mesh) -> str:
    """The resource's name."""
    return f"{mesh.cluster}//Pod/{pod.metadata.namespace}/{pod.metadata.name}"


def translate_pod(
    pod: Pod, context: Context, node: Node | None, services: Iterable[Service]
) -> Resource | None:
    """The resource of a pod that `services` select; None while it has no address, and once it has ended."""
    if pod.ended or not pod.addresses:
        return None
    mesh = context.mesh
    network = pod.metadata.labels.get(NETWORK) or context.network
    kind, owner = _owner(pod)
    healthy = pod.ready and pod.metadata.deletion_timestamp is None
    message = Workload(
        uid=workload_uid(pod, mesh),
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        addresses=[address.packed for address in pod.addresses],
        network=network,
        trust_domain="" if mesh.trust_domain == "cluster.local" else mesh.trust_domain,
        service_account=_not_default(pod.spec.service_account_name),
        node=pod.spec.node_name,
        canonical_name=_first(pod.metadata.labels, _NAME) or owner,
        canonical_revision=_first(pod.metadata.labels, _REVISION) or "latest",
        workload_type=kind,
        workload_name=owner,
        services={service_name(service, mesh): _ports(service, pod) for service in services},
        status=WorkloadStatus.HEALTHY if healthy else WorkloadStatus.UNHEALTHY,
        cluster_id=mesh.cluster,
        locality=locality(node),
    )
    _say_how_it_is_reached(message, pod, context.namespace)
    # The host's addresses are shared by all pods on its network: they name none of them.
    aliases = () if pod.spec.host_network else tuple(f"{network}/{address}" for address in pod.addresses)
    return address_resource(message.uid, Address(workload=message), aliases)


def locality(node: Node | None) -> Locality | None:
    """Where the node says it stands; None when it does not say."""
    region, zone, subzone = (node.metadata.labels.get(key, "") if node else "" for key in TOPOLOGY)
    return Locality(region=region, zone=zone, subzone=subzone) if region or zone or subzone else None


def _say_how_it_is_reached(message: Workload, pod: Pod, namespace: Namespace | None) -> None:
    if pod.spec.host_network:
        message.network_mode = NetworkMode.HOST_NETWORK
    if enrolled(pod, namespace) or pod.metadata.annotations.get(REDIRECTION) == "enabled":
        message.tunnel_protocol = TunnelProtocol.HBONE
    if "http" in pod.metadata.labels.get(TUNNEL, "").split(","):
        message.tunnel_protocol = TunnelProtocol.HBONE
        message.native_tunnel = True


def _ports(service: Service, pod: Pod) -> PortList:
    ports = PortList()
    for port in tcp_ports(service.spec.ports):
        if (number := target_port(port, pod)) is not None:
            ports.ports.add(service_port=port.port, target_port=number, app_protocol=app_protocol(port))
    return ports


def _owner(pod: Pod) -> tuple[WorkloadType, str]:
    """What made the pod: the Deployment or CronJob is guessed from the name of what stands between.

    A ReplicaSet has its Deployment's name and the hash of the pod template, a Job that of its CronJob and the
    minute for which it was scheduled.
    """
    owner = next((owner for owner in pod.metadata.owner_references if owner.controller), None)
    stem, _, suffix = owner.name.rpartition("-") if owner else ("", "", "")
    if owner and owner.kind == "ReplicaSet" and stem and suffix == pod.metadata.labels.get(_TEMPLATE_HASH):
        return WorkloadType.DEPLOYMENT, stem
    if owner and owner.kind == "Job":
        scheduled = stem and _MINUTE.match(suffix)
        return (WorkloadType.CRONJOB, stem) if scheduled else (WorkloadType.JOB, owner.name)
    return WorkloadType.POD, pod.metadata.name


def _first(labels: Labels, keys: tuple[str, ...]) -> str | None:
    return next((labels[key] for key in keys if labels.get(key)), None)


def _not_default(service_account: str) -> str:
    return "" if service_account == "default" else service_account
