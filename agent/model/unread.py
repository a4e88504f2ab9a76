"""Objects that are there and cannot be read: what they have made is not taken for gone, all else is."""

from msgspec import Struct

from agent.model.authentication import is_converted
from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.objects import Key
from agent.model.resources import ADDRESS, AUTHORIZATION, TRAFFIC

_WORKLOADS = {  # what the uids of those that a kind makes begin with, behind the cluster's name
    "Pod": "/Pod",
    "EndpointSlice": "discovery.k8s.io/EndpointSlice",
    "ServiceEntry": "networking.istio.io/ServiceEntry",
    "WorkloadEntry": "networking.istio.io/WorkloadEntry",
}


class Unread(Struct, frozen=True):
    """keys: of those of which no version is in force. None: of an object of which nothing can be told."""

    mesh: Mesh = Mesh()
    keys: frozenset[Key | None] = frozenset()

    def may_make(self, type_url: str, name: str) -> bool:
        """Whether one of them may be what a resource was made of."""
        may_make = _BY_TYPE.get(type_url, _nothing)
        return any(key is None or may_make(self.mesh, key, name) for key in self.keys)


def _nothing(mesh: Mesh, key: Key, name: str) -> bool:
    return False


def _policy(mesh: Mesh, key: Key, name: str) -> bool:
    if key.kind == "PeerAuthentication":
        return is_converted(name)  # those of others depend on it
    return key.kind == "AuthorizationPolicy" and name == f"{key.namespace}/{key.name}"


def _traffic(mesh: Mesh, key: Key, name: str) -> bool:
    return key.kind == "Sidecar" and key.namespace == (name or ROOT_NAMESPACE)


def _address(mesh: Mesh, key: Key, name: str) -> bool:
    namespace = key.namespace
    if key.kind == "Service":
        own = f"{namespace}/{key.name}.{namespace}.svc.{mesh.domain}"
        return name == own or name.startswith(_uid(mesh, Key("EndpointSlice", namespace, "")))
    if key.kind == "ServiceEntry" and name.startswith(f"{namespace}/"):
        return True  # its hostnames may be any
    return key.kind in _WORKLOADS and f"{name}/".startswith(f"{_uid(mesh, key)}/")


def _uid(mesh: Mesh, key: Key) -> str:
    return f"{mesh.cluster}/{_WORKLOADS[key.kind]}/{key.namespace}/{key.name}"


_BY_TYPE = {ADDRESS: _address, AUTHORIZATION: _policy, TRAFFIC: _traffic}
NOTHING_UNREAD = Unread()
