"""The kinds of objects that we know: where an API server has them, and what each is decoded to."""

from difflib import SequenceMatcher
from typing import NamedTuple, TypeAlias

from agent.model.entries import ServiceEntry, WorkloadEntry
from agent.model.objects import EndpointSlice, Namespace, Node, Object, Pod, Service, ServiceAccount
from agent.model.security import AuthorizationPolicy, PeerAuthentication
from agent.model.sidecar import Sidecar

Struct: TypeAlias = type[Object]


class Kind(NamedTuple):
    """One kind.

    group: empty for Kubernetes' core; versions: all that are accepted, the preferred one first, with the same
    fields in each; type: None if this version of ours does not act on it. critical: without its objects
    something would be let in, let out or sent in the clear that they forbid: first all of them are read.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    plural: str
    type: Struct | None = None
    namespaced: bool = True
    critical: bool = False

    @property
    def api_versions(self) -> list[str]:
        """What may stand in `apiVersion`, the preferred one first."""
        return [f"{self.group}/{version}" if self.group else version for version in self.versions]


_DISCOVERY = "discovery.k8s.io"
_NETWORKING = "networking.istio.io"
_SECURITY = "security.istio.io"
_TELEMETRY = "telemetry.istio.io"
_GATEWAY = "gateway.networking.k8s.io"
MESH_GROUPS = ("istio.io", "gateway.networking.k8s.io")  # ends of groups
_NEAR = 0.84  # likeness of two names, of which one is the other misspelt
_VERSIONS = {
    _NETWORKING: ("v1", "v1beta1", "v1alpha3"),
    _SECURITY: ("v1", "v1beta1"),
    _TELEMETRY: ("v1", "v1alpha1"),
}


def _istio(name: str, group: str, plural: str, type_: Struct | None = None) -> Kind:
    """Whichever of Istio's kinds we act on is critical."""
    return Kind(name, group, _VERSIONS[group], plural, type_, critical=type_ is not None)


_ALL = (
    # Labels of the first two enrol.
    Kind("Namespace", "", ("v1",), "namespaces", Namespace, namespaced=False, critical=True),
    Kind("Pod", "", ("v1",), "pods", Pod, critical=True),
    Kind("Node", "", ("v1",), "nodes", Node, namespaced=False),
    Kind("ServiceAccount", "", ("v1",), "serviceaccounts", ServiceAccount),
    # Policies are attached to these, and hold for their endpoints; to unknown addresses pods speak plainly.
    Kind("Service", "", ("v1",), "services", Service, critical=True),
    Kind("EndpointSlice", _DISCOVERY, ("v1",), "endpointslices", EndpointSlice, critical=True),
    _istio("ServiceEntry", _NETWORKING, "serviceentries", ServiceEntry),
    _istio("WorkloadEntry", _NETWORKING, "workloadentries", WorkloadEntry),
    # These forbid.
    _istio("Sidecar", _NETWORKING, "sidecars", Sidecar),
    _istio("AuthorizationPolicy", _SECURITY, "authorizationpolicies", AuthorizationPolicy),
    _istio("PeerAuthentication", _SECURITY, "peerauthentications", PeerAuthentication),
    _istio("RequestAuthentication", _SECURITY, "requestauthentications"),
    _istio("VirtualService", _NETWORKING, "virtualservices"),
    _istio("DestinationRule", _NETWORKING, "destinationrules"),
    _istio("Telemetry", _TELEMETRY, "telemetries"),
    Kind("HTTPRoute", _GATEWAY, ("v1", "v1beta1"), "httproutes"),
    Kind("GRPCRoute", _GATEWAY, ("v1",), "grpcroutes"),
    Kind("TCPRoute", _GATEWAY, ("v1", "v1alpha2"), "tcproutes"),
)

KINDS = {kind.name: kind for kind in _ALL if kind.type}
NOT_ACTED_ON = {kind.name: kind for kind in _ALL if not kind.type}


def find(api_version: str, name: str) -> Kind | None:
    """The kind of an object, whatever the version in its `apiVersion`; None: a stranger."""
    group = api_version.rpartition("/")[0]
    kind = KINDS.get(name) or NOT_ACTED_ON.get(name)
    return kind if kind and kind.group == group else None


def meant(api_version: str, name: str) -> Kind | None:
    """The kind that is meant where there is none of this name in this group; None: it is somebody else's.

    Other groups may well have kinds of the same name. Of the group of security all kinds are known.
    """
    group = api_version.rpartition("/")[0]
    of_group = [kind for kind in _ALL if _may_mean(group, kind.group)]
    near = [kind for kind in of_group if _likeness(name, kind.name) >= _NEAR]
    if group == _SECURITY and not near:
        near = [kind for kind in of_group if kind.group == _SECURITY]
    return max(near, key=lambda kind: _likeness(name, kind.name), default=None)


def _may_mean(group: str, ours: str) -> bool:
    within = group.endswith(MESH_GROUPS) and ours.endswith(MESH_GROUPS)
    return within or ours.startswith(group) or _likeness(group, ours) >= _NEAR


def _likeness(text: str, other: str) -> float:
    return SequenceMatcher(None, text.lower(), other.lower()).ratio()
