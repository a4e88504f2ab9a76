"""The Gateway API's GatewayClass, Gateway and ListenerSet.

The Gateway is `KubernetesGateway` here, as in Istio, which has a Gateway of its own.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import force_setattr

from agent.model.schema.gateway.base import (
    GATEWAY,
    Group,
    HostPattern,
    KindName,
    NamespaceName,
    ObjectName,
    SectionName,
)
from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.objects import IPAddress, Labels, Port, to_address
from agent.model.schema.syntax import FieldError


class SecretReference(Strict, frozen=True):
    """namespace: None is that of the Gateway or ListenerSet."""

    name: ObjectName
    group: Group = ""
    kind: KindName = "Secret"
    namespace: NamespaceName | None = None


class ParametersReference(Strict, frozen=True):
    group: Group
    kind: KindName
    name: ObjectName
    namespace: NamespaceName | None = None


class Requirement(Strict, frozen=True):
    """Of a label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def holds(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
        return value is None


class LabelSelector(Strict, frozen=True):
    """Kubernetes' LabelSelector; an empty one selects all."""

    match_labels: Labels = msgspec.field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def selects(self, labels: Labels) -> bool:
        expressed = all(one.holds(labels) for one in self.match_expressions)
        return expressed and self.match_labels.items() <= labels.items()


class FromNamespaces(Strict, frozen=True):
    """None: of ListenerSets only."""

    from_: Literal["All", "Selector", "Same", "None"] = msgspec.field(name="from", default="Same")
    selector: LabelSelector | None = None


class RouteKind(Strict, frozen=True):
    kind: KindName
    group: Group = GATEWAY


class AllowedRoutes(Strict, frozen=True):
    """kinds: none is all that the protocol has."""

    namespaces: FromNamespaces = FromNamespaces()
    kinds: Annotated[tuple[RouteKind, ...], msgspec.Meta(max_length=8)] = ()


class ListenerTls(Strict, frozen=True):
    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretReference, ...], msgspec.Meta(max_length=64)] = ()
    options: Labels = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode == "Terminate" and not self.certificate_refs and not self.options:
            raise FieldError("mode Terminate needs one; name a Secret", "certificateRefs")


class Listener(Strict, frozen=True):
    name: SectionName
    port: Port
    protocol: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    hostname: HostPattern | None = None
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()

    def __post_init__(self) -> None:
        if self.tls and self.protocol in ("HTTP", "TCP", "UDP"):
            raise FieldError(f"protocol {self.protocol} has none; remove it", "tls")
        if self.protocol == "HTTPS" and self.tls and self.tls.mode != "Terminate":
            raise FieldError("of protocol HTTPS it is Terminate; for Passthrough write TLS", "tls", "mode")
        if self.protocol == "TLS" and self.tls is None:
            raise FieldError("protocol TLS needs it; write mode", "tls")
        if self.hostname and self.protocol in ("TCP", "UDP"):
            raise FieldError(f"protocol {self.protocol} knows no host; remove it", "hostname")


Listeners = Annotated[tuple[Listener, ...], msgspec.Meta(min_length=1, max_length=64)]


class Address(Strict, frozen=True):
    type: str = "IPAddress"
    value: str = ""

    @property
    def ip(self) -> IPAddress | None:
        """The address, unless it is a name."""
        try:
            return to_address(self.value)
        except ValueError:
            return None


class AllowedListeners(Strict, frozen=True):
    """Whose ListenerSets may add to a Gateway."""

    namespaces: FromNamespaces = FromNamespaces("None")


class ObjectNameReference(Strict, frozen=True):
    group: Group
    kind: KindName
    name: ObjectName
    namespace: NamespaceName | None = None


class ClientValidation(Strict, frozen=True):
    ca_certificate_refs: Annotated[tuple[ObjectNameReference, ...], msgspec.Meta(min_length=1, max_length=16)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class FrontendTls(Strict, frozen=True):
    validation: ClientValidation | None = None


class PortTls(Strict, frozen=True):
    port: Port
    tls: FrontendTls


class Frontend(Strict, frozen=True):
    default: FrontendTls
    per_port: Annotated[tuple[PortTls, ...], msgspec.Meta(max_length=64)] = ()


class GatewayTls(Strict, frozen=True):
    frontend: Frontend | None = None
    backend: Any = None

    def validation(self, port: int) -> ClientValidation | None:
        """By what clients of a port are verified."""
        if self.frontend is None:
            return None
        own = (one.tls for one in self.frontend.per_port if one.port == port)
        return next(own, self.frontend.default).validation


class KubernetesGatewaySpec(Strict, frozen=True):
    gateway_class_name: ObjectName
    listeners: Listeners
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=16)] = ()
    allowed_listeners: AllowedListeners = AllowedListeners()
    infrastructure: Any = None
    tls: GatewayTls = GatewayTls()
    default_scope: str = ""

    def __post_init__(self) -> None:
        check_distinct(self.listeners)


class _Accepted(IstioObject, frozen=True, kw_only=True):
    """Whose status is others' to write."""

    status: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "status", None)


class _Addresses(msgspec.Struct, frozen=True):
    addresses: tuple[Address, ...] = ()


class KubernetesGateway(IstioObject, frozen=True, kw_only=True):
    """status: where its controller says that it is, and nothing else of it."""

    spec: KubernetesGatewaySpec
    status: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            addresses = msgspec.convert(self.status or {}, _Addresses).addresses
        except msgspec.ValidationError:
            addresses = ()
        force_setattr(self, "status", addresses or None)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self.status or ()


class ListenerParent(Strict, frozen=True):
    """A Gateway."""

    name: ObjectName
    group: Group = GATEWAY
    kind: KindName = "Gateway"
    namespace: NamespaceName | None = None


class ListenerSetSpec(Strict, frozen=True):
    parent_ref: ListenerParent
    listeners: Listeners

    def __post_init__(self) -> None:
        check_distinct(self.listeners)


class ListenerSet(_Accepted, frozen=True, kw_only=True):
    spec: ListenerSetSpec


class GatewayClassSpec(Strict, frozen=True):
    controller_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    description: Annotated[str, msgspec.Meta(max_length=64)] = ""
    parameters_ref: ParametersReference | None = None


class GatewayClass(_Accepted, frozen=True, kw_only=True):
    spec: GatewayClassSpec


def check_distinct(listeners: tuple[Listener, ...]) -> None:
    """No two have one name, nor one port, protocol and host."""
    names, places = set[str](), set[tuple[int, str, str | None]]()
    for index, one in enumerate(listeners):
        place = (one.port, one.protocol, one.hostname)
        if one.name in names:
            raise FieldError(f"{one.name} is there twice; write it once", "listeners", index, "name")
        if place in places:
            reason = f"{one.name}: port, protocol and hostname are another one's; keep one"
            raise FieldError(reason, "listeners", index)
        names.add(one.name)
        places.add(place)
