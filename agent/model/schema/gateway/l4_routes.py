"""The Gateway API's TCPRoute, TLSRoute and ReferenceGrant."""

from typing import Annotated, Any

import msgspec
from msgspec.structs import force_setattr

from agent.model.schema.gateway.base import (
    BackendRef,
    Group,
    HostPattern,
    KindName,
    NamespaceName,
    ObjectName,
    ParentRefs,
    Route,
    SectionName,
    check_parents,
)
from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.syntax import FieldError

_MOST_GRANTED = 16


class L4Rule(Strict, frozen=True):
    backend_refs: Annotated[tuple[BackendRef, ...], msgspec.Meta(min_length=1, max_length=16)]
    name: SectionName | None = None


_Rules = Annotated[tuple[L4Rule, ...], msgspec.Meta(min_length=1, max_length=1)]


class TcpRouteSpec(Strict, frozen=True):
    rules: _Rules
    parent_refs: ParentRefs = ()
    use_default_gateways: str = ""

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)


class TlsRouteSpec(Strict, frozen=True):
    """hostnames: of the handshake's SNI."""

    hostnames: Annotated[tuple[HostPattern, ...], msgspec.Meta(min_length=1, max_length=1024)]
    rules: _Rules
    parent_refs: ParentRefs = ()
    use_default_gateways: str = ""

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)
        for index, host in enumerate(self.hostnames):
            if host.rpartition(".")[2].isdecimal():
                raise FieldError(f"{host}: an SNI is a name, no address", "hostnames", index)


class TCPRoute(Route, frozen=True, kw_only=True):
    spec: TcpRouteSpec


class TLSRoute(Route, frozen=True, kw_only=True):
    spec: TlsRouteSpec


class GrantFrom(Strict, frozen=True):
    group: Group
    kind: KindName
    namespace: NamespaceName


class GrantTo(Strict, frozen=True):
    """name: None is all of the kind."""

    group: Group
    kind: KindName
    name: ObjectName | None = None


class ReferenceGrantSpec(Strict, frozen=True):
    """Whose objects may refer to which of this namespace."""

    from_: Annotated[tuple[GrantFrom, ...], msgspec.Meta(min_length=1, max_length=_MOST_GRANTED)] = (
        msgspec.field(name="from")
    )
    to: Annotated[tuple[GrantTo, ...], msgspec.Meta(min_length=1, max_length=_MOST_GRANTED)]


class ReferenceGrant(IstioObject, frozen=True, kw_only=True):
    spec: ReferenceGrantSpec
    status: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "status", None)
