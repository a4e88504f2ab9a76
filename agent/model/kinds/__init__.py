"""The kinds of objects that we know, a module each; this registry is the only place that names them all.

To add a kind:

1. Write its schema, a frozen struct that refuses what is invalid: a module in `agent.model.schema`. A kind of
   Istio's groups is an `IstioObject`; one that closes something is a `Policy`.
2. Write its module here. `KIND` is its descriptor (`agent.model.engine.kind.Descriptor` explains the fields);
   give only what differs from the default. Its functions are pure; where they look at other objects they take
   the view (`agent.model.engine.view.View`).
3. Add `KIND` to `_ALL` below, and remove the kind from `unsupported.py` if it is there.

Code for one kind stays in its module, code that several share is in `agent.model.translation`. A kind imports
no other kind's module: it finds their objects in the view. To be translated again with a named object it puts
`depends_on` into its index; for more, the other kind's `dependants` name it. Sources, statuses, CRDs
(`warren crds`) and the test of our RBAC rules follow the registry.
"""

from difflib import SequenceMatcher

from agent.model.engine.kind import SECURITY, Kind
from agent.model.kinds import (
    authorization_policy,
    destination_rule,
    endpoint_slice,
    gateway,
    gateway_class,
    grpc_route,
    http_route,
    kubernetes_gateway,
    listener_set,
    namespace,
    node,
    peer_authentication,
    pod,
    rate_limit_policy,
    reference_grant,
    request_authentication,
    service,
    service_account,
    service_entry,
    sidecar,
    tcp_route,
    telemetry,
    tls_route,
    unsupported,
    virtual_service,
    workload_entry,
)

MESH_GROUPS = ("istio.io", "gateway.networking.k8s.io", "warren.dev")  # ends of groups
_NEAR = 0.84  # likeness of two names, of which one is the other misspelt

_ALL: tuple[Kind, ...] = (
    namespace.KIND,
    pod.KIND,
    node.KIND,
    service_account.KIND,
    service.KIND,
    endpoint_slice.KIND,
    service_entry.KIND,
    workload_entry.KIND,
    sidecar.KIND,
    authorization_policy.KIND,
    peer_authentication.KIND,
    gateway.KIND,
    gateway_class.KIND,
    kubernetes_gateway.KIND,
    listener_set.KIND,
    request_authentication.KIND,
    rate_limit_policy.KIND,
    virtual_service.KIND,
    destination_rule.KIND,
    http_route.KIND,
    grpc_route.KIND,
    tcp_route.KIND,
    tls_route.KIND,
    reference_grant.KIND,
    telemetry.KIND,
    *unsupported.KINDS,
)

KINDS = {kind.name: kind for kind in _ALL if kind.struct}
NOT_ACTED_ON = {kind.name: kind for kind in _ALL if not kind.struct}
ENDPOINTS = frozenset(kind.name for kind in _ALL if kind.endpoints)
_WRITTEN = {(kind.group, kind.written): kind for kind in _ALL}
DERIVED = {derived.name: derived for kind in _ALL for derived in kind.derived}


def find(api_version: str, name: str) -> Kind | None:
    """The kind of an object, whatever the version in its `apiVersion`; None: a stranger."""
    return _WRITTEN.get((api_version.rpartition("/")[0], name))


def meant(api_version: str, name: str) -> Kind | None:
    """The kind that is meant where there is none of this name in this group; None: it is somebody else's.

    Other groups may well have kinds of the same name. Of the group of security all kinds are known.
    """
    group = api_version.rpartition("/")[0]
    of_group = [kind for kind in _ALL if _may_mean(group, kind.group)]
    near = [kind for kind in of_group if _likeness(name, kind.written) >= _NEAR]
    if group == SECURITY[0] and not near:
        near = [kind for kind in of_group if kind.group == SECURITY[0]]
    return max(near, key=lambda kind: _likeness(name, kind.written), default=None)


def _may_mean(group: str, ours: str) -> bool:
    within = group.endswith(MESH_GROUPS) and ours.endswith(MESH_GROUPS)
    return within or ours.startswith(group) or _likeness(group, ours) >= _NEAR


def _likeness(text: str, other: str) -> float:
    return SequenceMatcher(None, text.lower(), other.lower()).ratio()
