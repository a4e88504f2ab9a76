"""The mesh's own settings, and who belongs to it."""

from msgspec import Struct

from agent.model.schema.istio.base import REVISION, IstioObject
from agent.model.schema.istio.mesh_config import MeshConfig
from agent.model.schema.istio.sidecar import OutboundTrafficPolicy
from agent.model.schema.kubernetes import Namespace, Pod
from agent.model.schema.objects import Object

MODE = "istio.io/dataplane-mode"
REDIRECTION = "ambient.istio.io/redirection"
SIDECAR = "sidecar.istio.io/status"
ROOT_NAMESPACE = "istio-system"
GATEWAY = "warren.dev/gateway"  # label: "true" of the pods of gateways
NEVER_ENROLLED = frozenset({"kube-system"})


class Mesh(Struct, frozen=True):
    """What every translation needs to know; fixed for the life of a process.

    domain: of the cluster's DNS names; outbound_traffic_policy: where no Sidecar says anything else;
    revision: objects of Istio's kinds that are labelled for another one are not ours;
    config: Istio's MeshConfig.
    """

    cluster: str = "Kubernetes"
    trust_domain: str = "cluster.local"
    network: str = ""
    domain: str = "cluster.local"
    outbound_traffic_policy: OutboundTrafficPolicy = "ALLOW_ANY"
    revision: str = "default"
    config: MeshConfig = MeshConfig()


def is_ours(mesh: Mesh, item: Object) -> bool:
    """Whether an object is for this mesh: one of Istio's kinds may name the revision that is to read it.

    Kubernetes' own are everybody's. Without the label it is for all revisions (istiod's config filter).
    """
    named = item.metadata.labels.get(REVISION)
    return not named or named == mesh.revision or not isinstance(item, IstioObject)


def is_gateway(pod: Pod) -> bool:
    """Whether a pod is a gateway: a member of the mesh that speaks for itself."""
    return pod.metadata.labels.get(GATEWAY) == "true" and pod.has_account and not pod.ended


def enrolled(pod: Pod, namespace: Namespace | None) -> bool:
    """Whether a pod's traffic is to be captured: its own label first, then its namespace's."""
    return not excluded(pod, namespace)


def excluded(pod: Pod, namespace: Namespace | None) -> str:
    """Why a pod's traffic is not to be captured; empty: it is.

    Never: pods on the host's network, pods without a service account (static pods), pods with a sidecar, pods
    of kube-system, gateways, pods that have ended.
    """
    inherited = namespace.metadata.labels.get(MODE, "") if namespace else ""
    mode = pod.metadata.labels.get(MODE) or inherited
    reasons = {
        "it has ended": pod.ended,
        "it is on the host's network": pod.spec.host_network,
        "it has no service account": not pod.has_account,
        "it is a gateway, which speaks for itself": is_gateway(pod),
        "it has a sidecar": SIDECAR in pod.metadata.annotations,
        f"namespace {pod.metadata.namespace} is never in the mesh": pod.metadata.namespace in NEVER_ENROLLED,
        f"neither it nor its namespace is labelled {MODE}=ambient": not mode,
        f"it is labelled {MODE}={mode}": mode != "ambient",
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
