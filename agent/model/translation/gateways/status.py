"""What the Gateway API wants to read in `status` of GatewayClasses, Gateways and ListenerSets."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent.model.engine.view import View
from agent.model.schema.gateway.base import GATEWAY
from agent.model.schema.gateway.gateway import GatewayClass, KubernetesGateway, ListenerSet
from agent.model.schema.kubernetes import Pod, Service
from agent.model.schema.objects import IPAddress, Key, key_of
from agent.model.translation.gateways import attachments, pods
from agent.model.translation.gateways.attachments import CONTROLLER, Place
from agent.model.translation.gateways.kubernetes import certificate_problem
from agent.model.translation.routes.status import Condition


class ListenerStatus(NamedTuple):
    """kinds: of routes that it takes; attached: how many routes have attached to it."""

    name: str
    kinds: tuple[str, ...]
    attached: int
    conditions: tuple[Condition, ...]

    def holds(self, type_: str) -> bool:
        return any(one.type == type_ and one.status for one in self.conditions)


class Status(NamedTuple):
    """listeners: None of a class."""

    conditions: tuple[Condition, ...]
    listeners: tuple[ListenerStatus, ...] | None = None
    addresses: tuple[IPAddress, ...] = ()


def statuses(view: View) -> dict[Key, Status]:
    """Of all that are ours."""
    classes = view.store.each(GatewayClass, "GatewayClass", "")
    found = {key_of(one): _of_class(one) for one in classes if one.spec.controller_name == CONTROLLER}
    for gateway in view.store.each(KubernetesGateway, *attachments.GATEWAYS):
        if attachments.is_ours(view, gateway):
            own = gateway.metadata
            found[key_of(gateway)] = _of_gateway(view, gateway)
            for item in view.store.each(ListenerSet, attachments.ADDED_TO, own.namespace, own.name):
                found[key_of(item)] = _of_listener_set(view, item, gateway)
    return found


def _of_class(item: GatewayClass) -> Status:
    if item.spec.parameters_ref:
        message = "parametersRef: a class of Warren's has no parameters; remove it"
        return Status((Condition("Accepted", False, "InvalidParameters", message),))
    return Status((Condition("Accepted", True, "Accepted"),))


def _of_gateway(view: View, gateway: KubernetesGateway) -> Status:
    serving = [one for one in pods.pods(view) if one.ready and attachments.served(view, gateway, one)]
    addresses = tuple(_addresses(view, serving))
    found = tuple(_listeners(view, gateway, gateway, serving))
    accepted = _listeners_accepted(found)
    if odd := next((one.type for one in gateway.spec.addresses if one.type != "IPAddress"), None):
        message = f"addresses: type {odd} is not supported; write IPAddress"
        accepted = Condition("Accepted", False, "UnsupportedAddress", message)
    return Status((accepted, _programmed(gateway, accepted, found, addresses)), found, addresses)


def _of_listener_set(view: View, item: ListenerSet, gateway: KubernetesGateway) -> Status:
    if not attachments.may_add(view, gateway, item):
        message = f"Gateway {gateway.metadata.name} does not allow it (allowedListeners)"
        conditions = (Condition(type_, False, "NotAllowed", message) for type_ in ("Accepted", "Programmed"))
        return Status(tuple(conditions), ())
    serving = [one for one in pods.pods(view) if one.ready and attachments.served(view, gateway, one)]
    found = tuple(_listeners(view, gateway, item, serving))
    accepted = _listeners_accepted(found)
    return Status((accepted, _programmed(gateway, accepted, found, (), needed=False)), found)


def _listeners_accepted(found: Sequence[ListenerStatus]) -> Condition:
    wrong = [one.name for one in found if not one.holds("Accepted")]
    if not wrong:
        return Condition("Accepted", True, "Accepted")
    message = f"listeners that are not valid: {', '.join(wrong)}"
    return Condition("Accepted", len(wrong) < len(found), "ListenersNotValid", message)


def _programmed(
    gateway: KubernetesGateway,
    accepted: Condition,
    found: Sequence[ListenerStatus],
    addresses: Sequence[IPAddress],
    needed: bool = True,
) -> Condition:
    """needed: whether it has to have an address."""
    if not accepted.status:
        return Condition("Programmed", False, "Invalid", accepted.message)
    if needed and not addresses:
        message = "no pod with the label warren.dev/gateway serves it yet"
        return Condition("Programmed", False, "Pending", message)
    have = set(addresses)
    if missing := [one.value for one in gateway.spec.addresses if one.value and one.ip not in have]:
        message = f"not an address of its Services: {', '.join(missing)}"
        return Condition("Programmed", False, "AddressNotUsable", message)
    if not any(one.holds("Programmed") for one in found):
        return Condition("Programmed", False, "Invalid", "none of its listeners is programmed")
    return Condition("Programmed", True, "Programmed")


def _addresses(view: View, serving: Sequence[Pod]) -> Iterator[IPAddress]:
    """Of the Services that select its pods, else of these."""
    selecting = (
        item for pod in serving for item, _ in view.services_of(pod.metadata.namespace, pod.metadata.labels)
    )
    services = {one.metadata.name: one for one in selecting if isinstance(one, Service)}
    own = (address for pod in serving for address in pod.addresses)
    found = [address for _, one in sorted(services.items()) for address in one.addresses]
    yield from dict.fromkeys(found or own)


def _listeners(
    view: View, gateway: KubernetesGateway, owner: attachments.Owner, serving: Sequence[Pod]
) -> Iterator[ListenerStatus]:
    for place, found in attachments.judged(_beside(view, gateway)):
        conflict = (
            Condition("Conflicted", True, *found) if found else Condition("Conflicted", False, "NoConflicts")
        )
        accepted = Condition("Accepted", False, *found) if found else _accepted(place)
        if place.owner is owner:
            references = _references(view, place)
            programmed = _listener_programmed(accepted, references, bool(serving))
            attached = sum(1 for _ in attachments.attached_to(view, place))
            kinds = tuple(one.__name__ for one in place.kinds)
            conditions = (accepted, conflict, references, programmed)
            yield ListenerStatus(place.listener.name, kinds, attached, conditions)


def _accepted(place: Place) -> Condition:
    protocol = place.listener.protocol
    if protocol not in attachments.PROTOCOLS:
        message = f"protocol {protocol} is not supported; write one of {', '.join(attachments.PROTOCOLS)}"
        return Condition("Accepted", False, "UnsupportedProtocol", message)
    return Condition("Accepted", True, "Accepted")


def _beside(view: View, gateway: KubernetesGateway) -> list[Place]:
    """Its listeners, among those of all Gateways that a pod of it serves."""
    serving = (one for one in pods.pods(view) if attachments.served(view, gateway, one))
    everything = {key_of(one): one for pod in serving for one in attachments.gateways_of(view, pod)}
    gateways = sorted(everything.values(), key=attachments.age) or [gateway]
    return [place for one in gateways for place in attachments.places(view, one)]


def _references(view: View, place: Place) -> Condition:
    """Secrets themselves are not read here: what is in one its gateway's log tells."""
    known = {(GATEWAY, one.__name__) for one in attachments.kinds_of(place.listener)}
    for one in place.listener.allowed_routes.kinds:
        if (one.group, one.kind) not in known:
            message = f"kind {one.kind} of group {one.group!r} is not for protocol {place.listener.protocol}"
            return Condition("ResolvedRefs", False, "InvalidRouteKinds", message)
    tls = place.listener.tls
    if place.listener.protocol in attachments.BY_SNI and (tls is None or tls.mode == "Terminate"):
        refs = tls.certificate_refs if tls else ()
        if not refs:
            return Condition("ResolvedRefs", False, "InvalidCertificateRef", "tls has no certificateRefs")
        for ref in refs:
            if problem := certificate_problem(view, place, ref):
                return Condition("ResolvedRefs", False, *problem)
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def _listener_programmed(accepted: Condition, references: Condition, served: bool) -> Condition:
    for one in (accepted, references):
        if not one.status and one.reason != "InvalidRouteKinds":
            return Condition("Programmed", False, "Invalid", one.message)
    if not served:
        return Condition("Programmed", False, "Pending", "no gateway's pod serves it yet")
    return Condition("Programmed", True, "Programmed")
