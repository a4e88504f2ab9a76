"""The Gateway API's listeners, and which routes attach to which of them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.schema.gateway.base import GATEWAY, ParentRef, Route
from agent.model.schema.gateway.gateway import (
    FromNamespaces,
    GatewayClass,
    KubernetesGateway,
    Listener,
    ListenerSet,
)
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.schema.gateway.l4_routes import TCPRoute, TLSRoute
from agent.model.schema.http_values import matches_host
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, key_of
from agent.model.translation.gateways import pods

CONTROLLER, WAYPOINTS = "warren.dev/gateway-controller", "istio.io/mesh-controller"
# Labels of a gateway's pods: of those of one Gateway alone (GEP-1762).
ONE_GATEWAY = "gateway.networking.k8s.io/gateway-name"
GATEWAYS: Entry = ("gateways of the Gateway API",)  # index
ADDED_TO = "listeners added to"  # index: ListenerSets by their Gateway
ATTACHED_TO = "attached to"  # index: routes by Gateways and ListenerSets
_KINDS: dict[str, tuple[type[Route], ...]] = {
    "HTTP": (HTTPRoute, GRPCRoute),
    "HTTPS": (HTTPRoute, GRPCRoute),
    "TLS": (TLSRoute, TCPRoute),
    "TCP": (TCPRoute,),
}
PROTOCOLS = tuple(_KINDS)
BY_SNI = ("HTTPS", "TLS")
Owner: TypeAlias = KubernetesGateway | ListenerSet


class Place(NamedTuple):
    """A listener, and the object that it is written in."""

    gateway: KubernetesGateway
    owner: Owner
    listener: Listener

    @property
    def name(self) -> str:
        return f"{_written(self.owner)} {self.listener.name}"

    @property
    def kinds(self) -> tuple[type[Route], ...]:
        """Of routes that it takes: those of its protocol that are allowed."""
        allowed = {(one.group, one.kind) for one in self.listener.allowed_routes.kinds}
        known = kinds_of(self.listener)
        return tuple(one for one in known if not allowed or (GATEWAY, one.__name__) in allowed)


class Conflict(NamedTuple):
    """Why a listener is not served: an earlier one has its place. As reason and message of `Conflicted`."""

    reason: str
    message: str


class Attached(NamedTuple):
    """What became of one parentRef. hosts: by listener; reason and message: of `Accepted`."""

    places: tuple[tuple[Place, tuple[str, ...]], ...] = ()
    reason: str = "Accepted"
    message: str = ""


def kinds_of(listener: Listener) -> tuple[type[Route], ...]:
    """Of routes that are for its protocol."""
    if listener.protocol == "TLS" and listener.tls:
        return (TLSRoute,) if listener.tls.mode == "Passthrough" else (TCPRoute,)
    return _KINDS.get(listener.protocol, ())


def _written(owner: Owner) -> str:
    kind, namespace, name = key_of(owner)
    return f"{kind.removeprefix('Kubernetes')} {namespace}/{name}"


def is_ours(view: View, gateway: KubernetesGateway) -> bool:
    """Whether it is of one of our classes."""
    found = view.store.get(GatewayClass, "", gateway.spec.gateway_class_name)
    return found is not None and found.spec.controller_name == CONTROLLER


def served(view: View, gateway: KubernetesGateway, pod: Pod) -> bool:
    """Whether a gateway's pod is for it: one of its own, or without these one for all of our classes."""
    if ONE_GATEWAY in pod.metadata.labels:
        return _is_own(gateway, pod)
    return is_ours(view, gateway) and not any(_is_own(gateway, one) for one in pods.pods(view))


def _is_own(gateway: KubernetesGateway, pod: Pod) -> bool:
    own = pod.metadata.labels.get(ONE_GATEWAY)
    return (pod.metadata.namespace, own) == (gateway.metadata.namespace, gateway.metadata.name)


def is_known_class(view: View, name: str) -> bool:
    """Whether it is of gateways of ours, or of Istio's waypoints."""
    found = view.store.get(GatewayClass, "", name)
    return found is not None and found.spec.controller_name in (CONTROLLER, WAYPOINTS)


def gateways_of(view: View, pod: Pod) -> list[KubernetesGateway]:
    """Those that a pod serves, the oldest first."""
    found = view.store.each(KubernetesGateway, *GATEWAYS)
    return sorted((one for one in found if is_ours(view, one) and served(view, one, pod)), key=age)


def age(item: Owner | Route) -> tuple[str, Key]:
    return item.metadata.creation_timestamp, key_of(item)


def places(view: View, gateway: KubernetesGateway) -> Iterator[Place]:
    """Its own listeners, and those that ListenerSets add to it, the oldest first."""
    yield from (Place(gateway, gateway, one) for one in gateway.spec.listeners)
    own = gateway.metadata
    sets = view.store.each(ListenerSet, ADDED_TO, own.namespace, own.name)
    for item in sorted((one for one in sets if may_add(view, gateway, one)), key=age):
        yield from (Place(gateway, item, one) for one in item.spec.listeners)


def places_of(view: View, pod: Pod) -> list[Place]:
    """The listeners of all that a pod serves, in the order in which they may have a port and hostname."""
    return [place for gateway in gateways_of(view, pod) for place in places(view, gateway)]


def judged(places: Iterable[Place]) -> Iterator[tuple[Place, Conflict | None]]:
    """Each listener of a pod, and what is in its way.

    Gateways may share one as far as their listeners differ in port, protocol or hostname (Gateway API,
    `Gateway.spec.listeners`: distinct).
    """
    earlier = list[Place]()
    for place in places:
        conflict = _conflict(place, earlier)
        if conflict is None and place.listener.protocol in PROTOCOLS:
            earlier.append(place)
        yield place, conflict


def _conflict(place: Place, earlier: Iterable[Place]) -> Conflict | None:
    """The first of a port says what it speaks: requests in plain text, bytes, or TLS by its names."""
    listener = place.listener
    for other in (one for one in earlier if one.listener.port == listener.port):
        own = (
            ""
            if other.gateway is place.gateway
            else f"; give one of the Gateways pods of its own ({ONE_GATEWAY})"
        )
        if _speech(other) != _speech(place):
            message = f"{other.name} speaks {other.listener.protocol} on port {listener.port}"
            return Conflict("ProtocolConflict", message + own)
        if other.listener.hostname == listener.hostname:
            return Conflict(
                "HostnameConflict", f"{other.name} has this hostname on port {listener.port}" + own
            )
    return None


def _speech(place: Place) -> str:
    protocol = place.listener.protocol
    return "TLS" if protocol in BY_SNI else protocol


def may_add(view: View, gateway: KubernetesGateway, item: ListenerSet) -> bool:
    """Whether a Gateway allows a ListenerSet."""
    return is_from(view, gateway.spec.allowed_listeners.namespaces, gateway, item.metadata.namespace)


def is_from(view: View, wanted: FromNamespaces, owner: Owner, namespace: str) -> bool:
    """Whether a namespace is one of those."""
    match wanted.from_:
        case "All":
            return True
        case "Same":
            return namespace == owner.metadata.namespace
        case "Selector" if wanted.selector:
            found = view.namespace(namespace)
            return found is not None and wanted.selector.selects(found.metadata.labels)
    return False


def parent_gateway(view: View, item: Route, parent: ParentRef) -> Owner | None:
    """The Gateway or ListenerSet of ours that a parentRef names."""
    if parent.group != GATEWAY:
        return None
    namespace = parent.namespace or item.metadata.namespace
    if parent.kind == "ListenerSet":
        found = view.store.get(ListenerSet, namespace, parent.name)
        return found if found and gateway_of(view, found) else None
    gateway = view.store.get(KubernetesGateway, namespace, parent.name) if parent.kind == "Gateway" else None
    return gateway if gateway and is_ours(view, gateway) else None


def gateway_of(view: View, item: ListenerSet) -> KubernetesGateway | None:
    """The Gateway of ours to which a ListenerSet adds, whether that allows it or not."""
    parent = item.spec.parent_ref
    namespace = parent.namespace or item.metadata.namespace
    found = view.store.get(KubernetesGateway, namespace, parent.name)
    return found if found and is_ours(view, found) else None


def attached(view: View, item: Route, parent: ParentRef) -> Attached:
    """To which listeners of its parent a route attaches, and for which hosts."""
    owner = parent_gateway(view, item, parent)
    if owner is None:
        return Attached((), "NoMatchingParent", f"{parent.kind} {parent.name} is not there")
    gateway = owner if isinstance(owner, KubernetesGateway) else gateway_of(view, owner)
    assert gateway
    own = [one for one in places(view, gateway) if one.owner is owner]
    named = [one for one in own if _is_named(one.listener, parent)]
    if not named:
        wanted = parent.section_name or parent.port
        return Attached((), "NoMatchingParent", f"{parent.kind} {parent.name} has no listener {wanted}")
    allowed = [one for one in named if _is_allowed(view, one, item)]
    if not allowed:
        reason = f"no listener of {parent.kind} {parent.name} allows {type(item).__name__}s of this namespace"
        return Attached((), "NotAllowedByListeners", reason)
    found = [(one, tuple(hosts(one.listener, item))) for one in allowed]
    fitting = tuple(pair for pair in found if pair[1])
    if not fitting:
        reason = f"no listener of {parent.kind} {parent.name} has a hostname of this route"
        return Attached((), "NoMatchingListenerHostname", reason)
    return Attached(fitting)


def _is_named(listener: Listener, parent: ParentRef) -> bool:
    return parent.section_name in (None, listener.name) and parent.port in (None, listener.port)


def _is_allowed(view: View, place: Place, item: Route) -> bool:
    namespaces = place.listener.allowed_routes.namespaces
    return type(item) in place.kinds and is_from(view, namespaces, place.owner, item.metadata.namespace)


def hosts(listener: Listener, item: Route) -> Iterator[str]:
    """What the hostnames of a listener and of a route have in common; `*` where neither has any."""
    own, written = listener.hostname or "*", getattr(item.spec, "hostnames", ()) or ("*",)
    for host in written:
        if matches_host(host, own):
            yield host
        elif matches_host(own, host):
            yield own


def index(item: Route) -> Iterator[Entry]:
    for parent in item.parents:
        if parent.group == GATEWAY:
            yield ATTACHED_TO, parent.kind, parent.namespace or item.metadata.namespace, parent.name


def routes_of(view: View, owner: Owner) -> list[Route]:
    """All that name it as a parent, the oldest first."""
    kind, namespace, name = key_of(owner)
    found = view.store.each(Route, ATTACHED_TO, kind.removeprefix("Kubernetes"), namespace, name)
    return sorted(found, key=age)


def attached_to(view: View, place: Place) -> Iterator[tuple[Route, tuple[str, ...]]]:
    """The routes of a listener, with the hosts for which they are its."""
    for item in routes_of(view, place.owner):
        found = dict[str, None]()
        for parent in item.parents:
            if parent_gateway(view, item, parent) is place.owner:
                for one, names in attached(view, item, parent).places:
                    found.update(dict.fromkeys(names if one == place else ()))
        if found:
            yield item, tuple(found)
