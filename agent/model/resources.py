"""What the tunnels are told: named, versioned, serialised once."""

from hashlib import blake2b

from msgspec import Struct

from protocols.security_pb2 import Authorization
from protocols.workload_pb2 import Address

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"


class Resource(Struct, frozen=True, gc=False):
    """One xDS resource.

    name: a workload's uid, a service's `namespace/hostname`, a policy's `namespace/name`.
    version: 16 hexadecimal digits, a hash of `body`; the same content has the same version in every process.
    aliases: `network/ip` for each address under which it can be asked for.
    endpoint_of: names of the services that have this workload as an endpoint; empty for a service.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    aliases: tuple[str, ...] = ()
    endpoint_of: tuple[str, ...] = ()

    @property
    def id(self) -> tuple[str, str]:
        """What no other resource has: type URL and name."""
        return self.type_url, self.name


class Delta(Struct, frozen=True):
    """What is different: new or changed resources, and the (type URL, name) of those that are gone."""

    changed: tuple[Resource, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def policy_resource(policy: Authorization) -> Resource:
    """Serialise a policy. The same content gives the same bytes."""
    body = policy.SerializeToString(deterministic=True)
    version = blake2b(body, digest_size=8).hexdigest()
    return Resource(AUTHORIZATION, f"{policy.namespace}/{policy.name}", version, body)


def address_resource(name: str, address: Address, aliases: tuple[str, ...]) -> Resource:
    """Serialise a workload or service. The same content gives the same bytes."""
    body = address.SerializeToString(deterministic=True)
    version = blake2b(body, digest_size=8).hexdigest()
    return Resource(ADDRESS, name, version, body, aliases, tuple(sorted(address.workload.services)))
