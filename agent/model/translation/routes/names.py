"""Hosts in rules: what they name, and under what the store finds who names them."""

from collections.abc import Iterable, Iterator

from agent.model.engine.view import ServiceLike, View
from agent.model.engine.visibility import visibility
from agent.model.mesh import Mesh
from agent.model.schema.http_values import matches_host
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import Service
from agent.model.schema.objects import Key
from protocols.workload_pb2 import NAMESPACE

ROUTES = "Routes"  # stands for a kind in keys: one for each hostname of a service
WILDCARD = "*"


def resolve(mesh: Mesh, host: str, namespace: str) -> str:
    """A name without a dot is a Service's in the namespace of the rule (Istio's ResolveShortnameToFQDN)."""
    short = host and "." not in host and not host.startswith(WILDCARD)
    return f"{host}.{namespace}.svc.{mesh.domain}" if short else host


def entry_of(host: str, namespace: str) -> str:
    """Under what a host in a rule is found. All wildcards are under one: whether they match is seen then."""
    if host.startswith(WILDCARD):
        return WILDCARD
    return host if "." in host else f"{host}/{namespace}"


def entries_of(mesh: Mesh, host: str) -> Iterator[str]:
    """Under what all are found that may name a service's hostname."""
    yield host
    yield WILDCARD
    name, _, rest = host.partition(".")
    namespace, _, suffix = rest.partition(".")
    if suffix == f"svc.{mesh.domain}":
        yield f"{name}/{namespace}"


def wildcards_over(host: str) -> Iterator[str]:
    """The wildcards that cover a host, the longest first; itself is none of them."""
    _, _, rest = host.removeprefix("*.").partition(".")
    while rest:
        yield f"*.{rest}"
        _, _, rest = rest.partition(".")


def covers(mesh: Mesh, written: str, namespace: str, host: str) -> bool:
    """Whether a host in a rule of a namespace means a service's hostname, or a wildcard that does."""
    return matches_host(host, resolve(mesh, written, namespace))


def specificity(pattern: str) -> tuple[bool, int]:
    """The larger one counts: an exact name before wildcards, longer wildcards before shorter ones."""
    return not pattern.startswith(WILDCARD), len(pattern)


def visible(view: View, host: str, client: str) -> ServiceLike | None:
    """The service that clients of a namespace (empty: of any other) mean by a hostname; None: none."""
    named = list(view.claimants(host))
    own = [one for one in named if one.metadata.namespace == client]
    if own:
        return view.owner(host, client)
    public = (one for one in named if visibility(one) != NAMESPACE and view.canonical(one, host))
    return next(public, None)


def routes_of(view: View, host: str) -> Iterator[Key]:
    """The routes of all services that have a hostname, or, with a wildcard, one that it covers."""
    if not host.startswith(WILDCARD):
        for one in view.claimants(host):
            yield Key(ROUTES, one.metadata.namespace, host)
        return
    for item in view.store.objects.values():
        if isinstance(item, Service | ServiceEntry):
            yield from (key for key in routes_of_service(view, item) if matches_host(key.name, host))


def routes_over(view: View, host: str) -> Iterator[Key]:
    """The routes of the wildcards that cover a hostname."""
    for wildcard in wildcards_over(host):
        for one in view.claimants(wildcard):
            yield Key(ROUTES, one.metadata.namespace, wildcard)


def routes_of_service(view: View, item: ServiceLike) -> Iterator[Key]:
    """The routes of each hostname that a service has."""
    for host in view.claims(item):
        yield Key(ROUTES, item.metadata.namespace, host)


def naming(view: View, index: str, hosts: Iterable[str]) -> Iterator[Key]:
    """The objects that may name one of these hostnames, by an index of theirs."""
    for host in hosts:
        for entry in entries_of(view.mesh, host):
            yield from view.store.find(index, entry)
