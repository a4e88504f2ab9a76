"""Istio's waypoints: the Gateway that is to be passed on the way to a Service or a pod, as its label says.

Where a label asks for one, nothing goes past it: while there is none connections are refused. That is
stricter than istiod, which tells nobody of a waypoint that is not ready.
"""

from collections.abc import Iterator
from typing import Literal

from agent.model.engine.invalidation import endpoints_of
from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.gateway import GatewayClass, KubernetesGateway, Listener
from agent.model.schema.kubernetes import Namespace, Service
from agent.model.schema.objects import Key, Object
from agent.model.translation.gateways.attachments import ONE_GATEWAY, is_from
from protocols.workload_pb2 import GatewayAddress, NamespacedHostname, NetworkAddress

LABEL, OF_NAMESPACE = "istio.io/use-waypoint", "istio.io/use-waypoint-namespace"
FOR = "istio.io/waypoint-for"  # label of a Gateway or its class: service, workload, all or none
INHERIT = ("Service", "ServiceEntry", "WorkloadEntry", "EndpointSlice", "Pod")  # their namespace's labels
_USES = "uses waypoint"  # index: what a label is on, by the Gateway that it names
_MANAGED = ("gateway.istio.io/managed", "istio.io-mesh-controller")  # of a waypoint's own Service and pods
_HBONE, _PORT = "HBONE", 15008
_REFUSED = "connections are refused until then"
Traffic = Literal["service", "workload"]


def index(item: Object) -> Iterator[Entry]:
    """By which `users` finds it."""
    own = item.metadata.name if isinstance(item, Namespace) else item.metadata.namespace
    if named := _named(item, own):
        yield _USES, *named


def users(view: View, namespace: str, name: str) -> Iterator[Key]:
    """What is behind a Gateway, with the endpoints of services, for which other policies hold."""
    for key in view.store.find(_USES, namespace, name):
        yield key
        item = view.store.objects[key]
        if isinstance(item, Namespace):
            for kind in INHERIT:
                yield from view.store.find(kind, item.metadata.name)
        elif isinstance(item, ServiceLike):
            yield from endpoints_of(view, item)


def is_waypoint(gateway: KubernetesGateway) -> bool:
    return _listener(gateway) is not None


def before(view: View, item: Object, traffic: Traffic) -> GatewayAddress | None:
    """What has to be passed to reach it; None: nothing. One that cannot be had leads nowhere."""
    named = _wanted(view, item)
    if named is None or not _is_for(view, named, traffic):
        return None
    gateway = view.store.get(KubernetesGateway, *named)
    if gateway is None or _problem(view, item, named):
        nowhere = NamespacedHostname(namespace=named[0], hostname=f"{named[1]}.invalid")
        return GatewayAddress(hostname=nowhere, hbone_mtls_port=_PORT)
    return _address(view, gateway)


def judges(view: View, item: ServiceLike) -> bool:
    """Whether the policies that are attached to a service are its waypoint's to enforce."""
    named = _wanted(view, item)
    return named is not None and _is_for(view, named, "service") and not _problem(view, item, named)


def problems(view: View, item: Object) -> Iterator[str]:
    """What its author should know of the label."""
    named = _named(item, item.metadata.name if isinstance(item, Namespace) else item.metadata.namespace)
    if named is None or _is_one(item, named):
        return
    if problem := _problem(view, item, named):
        yield f"label {LABEL}: {problem}; {_REFUSED}"
    elif isinstance(item, ServiceLike) and not _is_for(view, named, "service"):
        yield f"label {LABEL}: Gateway {'/'.join(named)} is not for services ({FOR}): it is not passed"


def _named(item: Object, namespace: str) -> tuple[str, str] | None:
    """The Gateway that its own label names, which may say `none`."""
    labels = item.metadata.labels
    name = labels.get(LABEL, "none")
    return None if name in ("", "none") else (labels.get(OF_NAMESPACE) or namespace, name)


def _wanted(view: View, item: Object) -> tuple[str, str] | None:
    """The Gateway that its own label names, else its namespace's."""
    namespace = item.metadata.namespace
    around = None if LABEL in item.metadata.labels else view.namespace(namespace)
    named = _named(around or item, namespace)
    return named if named and not _is_one(item, named) else None


def _is_one(item: Object, named: tuple[str, str]) -> bool:
    """Whether it is a waypoint's own Service or pod."""
    labels, (key, value) = item.metadata.labels, _MANAGED
    own = (item.metadata.namespace, labels.get(ONE_GATEWAY) or item.metadata.name) == named
    return labels.get(key) == value or own


def _is_for(view: View, named: tuple[str, str], traffic: Traffic) -> bool:
    """As its label has it, else its class's; by default it is for services."""
    gateway = view.store.get(KubernetesGateway, *named)
    if gateway is None:
        return traffic == "service"
    of_class = view.store.get(GatewayClass, "", gateway.spec.gateway_class_name)
    inherited = of_class.metadata.labels.get(FOR, "service") if of_class else "service"
    return gateway.metadata.labels.get(FOR, inherited) in ("all", traffic)


def _problem(view: View, item: Object, named: tuple[str, str]) -> str:
    """Why nothing gets to what is behind it; empty: it is ready as far as can be seen."""
    written = "/".join(named)
    gateway = view.store.get(KubernetesGateway, *named)
    if gateway is None:
        return f"Gateway {written} is not there"
    namespace = item.metadata.name if isinstance(item, Namespace) else item.metadata.namespace
    listener = _listener(gateway)
    if listener is None:
        return f"Gateway {written} has no listener of protocol {_HBONE}"
    if namespace != named[0] and not is_from(view, listener.allowed_routes.namespaces, gateway, namespace):
        return (
            f"Gateway {written} does not allow namespace {namespace} (allowedRoutes of its {_HBONE} listener)"
        )
    if not gateway.addresses and view.store.get(Service, *named) is None:
        return f"Gateway {written} has no address"
    return ""


def _listener(gateway: KubernetesGateway) -> Listener | None:
    return next((one for one in gateway.spec.listeners if one.protocol == _HBONE), None)


def _address(view: View, gateway: KubernetesGateway) -> GatewayAddress:
    """Of its status, else its Service's."""
    own, listener = gateway.metadata, _listener(gateway)
    port = listener.port if listener else _PORT
    written = gateway.addresses[0] if gateway.addresses else None
    if written and (ip := written.ip):
        return GatewayAddress(
            address=NetworkAddress(network=view.network, address=ip.packed), hbone_mtls_port=port
        )
    host = written.value if written else f"{own.name}.{own.namespace}.svc.{view.mesh.domain}"
    return GatewayAddress(
        hostname=NamespacedHostname(namespace=own.namespace, hostname=host), hbone_mtls_port=port
    )
