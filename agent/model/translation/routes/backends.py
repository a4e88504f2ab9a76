"""What the Gateway API's routes send to: an invalid one is answered with 500 for its share."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from agent.model.engine.view import ServiceLike, View
from agent.model.schema.gateway.base import GATEWAY, ISTIO, ObjectReference, Route
from agent.model.schema.gateway.l4_routes import ReferenceGrant
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import Service
from agent.model.schema.objects import Object
from agent.model.translation.routes.names import visible
from agent.model.translation.services import ports_of_host


class Backend(NamedTuple):
    """A port of a service, by one of its hostnames."""

    service: ServiceLike
    host: str
    port: int


class InvalidBackend(Exception):
    """reason: of the condition `ResolvedRefs`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def backend(view: View, item: Route, ref: ObjectReference) -> Backend:
    """What a reference means. Raises InvalidBackend."""
    namespace = ref.namespace or item.metadata.namespace
    service, host = _service(view, ref, namespace)
    named = f"{ref.kind} {namespace}/{ref.name}"
    if namespace != item.metadata.namespace and not is_granted(view, item, ref, namespace):
        message = f"{named}: no ReferenceGrant of its namespace permits it to {item.metadata.namespace}"
        raise InvalidBackend("RefNotPermitted", message)
    if service is None:
        raise InvalidBackend("BackendNotFound", f"{named} is not there")
    ports = [*ports_of_host(view, host, service.metadata.namespace)]
    number = ref.port or (ports[0] if len(ports) == 1 else 0)
    if number not in ports:
        raise InvalidBackend("BackendNotFound", f"{named} has no TCP port {number or '; name one'}")
    return Backend(service, host, number)


def _service(view: View, ref: ObjectReference, namespace: str) -> tuple[ServiceLike | None, str]:
    match ref.group, ref.kind:
        case "", "Service":
            service = view.store.get(Service, namespace, ref.name)
            return (service, view.hostname(service)) if service and view.claims(service) else (None, "")
        case group, "ServiceEntry" if group == ISTIO:
            entry = view.store.get(ServiceEntry, namespace, ref.name)
            host = next(iter(view.hosts(entry)), "") if entry else ""
            return (entry if host else None), host
        case group, "Hostname" if group == ISTIO:
            return visible(view, ref.name, namespace), ref.name
    raise InvalidBackend("InvalidKind", f"{ref.kind} of group {ref.group!r} is no backend; use a Service")


class Reference(Protocol):
    """What objects refer to others by."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


def is_granted(view: View, item: Object, ref: Reference, namespace: str) -> bool:
    """Whether an object may refer to one of another namespace. A hostname belongs to nobody's."""
    if ref.kind == "Hostname":
        return True
    return any(_grants(grant, item, ref) for grant in _grants_of(view, namespace))


def _grants_of(view: View, namespace: str) -> Iterator[ReferenceGrant]:
    return view.store.each(ReferenceGrant, "ReferenceGrant", namespace)


def _grants(grant: ReferenceGrant, item: Object, ref: Reference) -> bool:
    asker = (GATEWAY, type(item).__name__.removeprefix("Kubernetes"), item.metadata.namespace)
    asked = any((one.group, one.kind, one.namespace) == asker for one in grant.spec.from_)
    target = (ref.group, ref.kind)
    return asked and any(
        (to.group, to.kind) == target and to.name in (None, ref.name) for to in grant.spec.to
    )


def refs_of(item: Route) -> Iterator[ObjectReference]:
    """All that a route sends to, mirrors too."""
    for rule in item.spec.rules:
        yield from rule.backend_refs
        for one in getattr(rule, "filters", ()):
            if one.request_mirror:
                yield one.request_mirror.backend_ref
