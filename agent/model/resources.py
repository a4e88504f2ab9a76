"""What the tunnels are told: named, versioned, serialised once."""

from hashlib import blake2b

from google.protobuf.message import Message
from msgspec import Struct

from agent.model.schema.istio.sidecar import OutboundTrafficPolicy
from agent.model.schema.sharing import shared
from protocols.mesh_pb2 import Traffic
from protocols.routes_pb2 import Credential, GatewayListeners, ServiceRoutes
from protocols.security_pb2 import Authorization
from protocols.telemetry_pb2 import Telemetry
from protocols.workload_pb2 import Address, Workload

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"
TRAFFIC = "type.googleapis.com/warren.mesh.Traffic"
TELEMETRY = "type.googleapis.com/warren.telemetry.Telemetry"
ROUTES = "type.googleapis.com/warren.routes.ServiceRoutes"
CREDENTIAL = "type.googleapis.com/warren.routes.Credential"
LISTENERS = "type.googleapis.com/warren.routes.GatewayListeners"
# Given to those only who ask for one by its name, within this host: there are private keys in it.
PRIVATE = frozenset({LISTENERS})
# Given within this host alone.
LOCAL = PRIVATE | {CREDENTIAL}


class Resource(Struct, frozen=True, gc=False):
    """One xDS resource.

    name: a workload's uid, a service's and its routes' `namespace/hostname`, a policy's `namespace/name`,
    a gateway's listeners' `namespace/pod`. What may leave the mesh and what is told of traffic go by their
    namespace, which is empty for the mesh itself.
    version: 16 hexadecimal digits, a hash of `body`; the same content has the same version in every process.
    own: the serialised message, or what is to be merged into `common`, which many have as one object.
    aliases: `network/ip` for each address under which it can be asked for.
    shares: the same for addresses that it has, but that are others' as well.
    endpoint_of: names of the services that have this workload as an endpoint; empty for a service.
    """

    type_url: str
    name: str
    version: str
    own: bytes
    aliases: tuple[str, ...] = ()
    endpoint_of: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    common: bytes = b""

    @property
    def id(self) -> tuple[str, str]:
        """What no other resource has: type URL and name."""
        return self.type_url, self.name

    @property
    def body(self) -> bytes:
        """The message, serialised: parsers merge two that stand one after the other.

        https://protobuf.dev/programming-guides/encoding/#last-one-wins
        """
        return self.common + self.own


class Template(Struct, frozen=True, gc=False):
    """What workloads have in common that are made alike; `body` is it, serialised."""

    workload: Workload
    body: bytes
    endpoint_of: tuple[str, ...]

    @classmethod
    def of(cls, workload: Workload) -> "Template":
        body = Address(workload=workload).SerializeToString(deterministic=True)
        return cls(workload, shared(body), _endpoint_of(workload))


class Delta(Struct, frozen=True):
    """What is different: new or changed resources, and the (type URL, name) of those that are gone."""

    changed: tuple[Resource, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def policy_resource(policy: Authorization) -> Resource:
    """A policy, serialised."""
    return _resource(AUTHORIZATION, f"{policy.namespace}/{policy.name}", policy)


def address_resource(
    name: str, address: Address, aliases: tuple[str, ...], shares: tuple[str, ...] = ()
) -> Resource:
    """A workload or service, serialised."""
    endpoint_of = _endpoint_of(address.workload)
    return _resource(ADDRESS, name, address, aliases=aliases, endpoint_of=endpoint_of, shares=shares)


def templated_resource(
    name: str, template: Template, own: Address, aliases: tuple[str, ...], shares: tuple[str, ...]
) -> Resource:
    """A workload of a template, serialised. own: what no other one has."""
    common, endpoint_of = template.body, template.endpoint_of
    return _resource(
        ADDRESS, name, own, aliases=aliases, endpoint_of=endpoint_of, shares=shares, common=common
    )


def _endpoint_of(workload: Workload) -> tuple[str, ...]:
    names: tuple[str, ...] = shared(tuple(sorted(workload.services)))
    return names


def traffic_resource(namespace: str, policy: OutboundTrafficPolicy) -> Resource:
    """What may leave a namespace (empty: the mesh), serialised."""
    return _resource(TRAFFIC, namespace, Traffic(namespace=namespace, outbound_traffic_policy=policy))


def telemetry_resource(telemetry: Telemetry) -> Resource:
    """What is told of traffic, serialised."""
    return _resource(TELEMETRY, telemetry.name, telemetry)


def routes_resource(routes: ServiceRoutes) -> Resource:
    """The routes of one hostname of a service, serialised."""
    return _resource(ROUTES, f"{routes.namespace}/{routes.hostname}", routes)


def listeners_resource(listeners: GatewayListeners) -> Resource:
    """What a gateway's pod listens on, serialised."""
    return _resource(LISTENERS, f"{listeners.namespace}/{listeners.pod}", listeners)


def credential_resource(credential: Credential) -> Resource:
    """What TLS origination shows and verifies by, serialised."""
    return _resource(CREDENTIAL, credential.name, credential)


def _resource(
    type_url: str,
    name: str,
    message: Message,
    *,
    aliases: tuple[str, ...] = (),
    endpoint_of: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    common: bytes = b"",
) -> Resource:
    """The same content gives the same bytes."""
    own = message.SerializeToString(deterministic=True)
    version = blake2b(common + own, digest_size=8).hexdigest()
    return Resource(type_url, name, version, own, aliases, endpoint_of, shares, common)
