"""What the descriptors of the Gateway API's routes have in common."""

from typing import Any

from msgspec.structs import replace

from agent.model.engine.kind import Raw, Reading
from agent.model.engine.reading import part
from agent.model.mesh import Mesh
from agent.model.resources import ROUTES
from agent.model.schema.gateway.base import BackendRef, ParentRef, Parents
from agent.model.schema.gateway.grpc_route import GrpcRouteRule, GrpcRouteSpec
from agent.model.schema.gateway.http_route import HttpRouteRule, HttpRouteSpec
from agent.model.schema.gateway.l4_routes import L4Rule, TcpRouteSpec, TlsRouteSpec
from agent.model.schema.objects import Key

_NOWHERE = L4Rule((BackendRef("refused", port=1, weight=0),))


def may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Its parents may be any."""
    return type_url == ROUTES


# Each is for the parents that are understood, and sends nothing on.


def strictest_http(spec: Raw, clear: bool, annotations: Any) -> Reading:
    return Reading(HttpRouteSpec(parent_refs=_parents(spec), rules=(HttpRouteRule(),)))


def strictest_grpc(spec: Raw, clear: bool, annotations: Any) -> Reading:
    return Reading(GrpcRouteSpec(parent_refs=_parents(spec), rules=(GrpcRouteRule(),)))


def strictest_tcp(spec: Raw, clear: bool, annotations: Any) -> Reading:
    return Reading(TcpRouteSpec((_NOWHERE,), _parents(spec)))


def strictest_tls(spec: Raw, clear: bool, annotations: Any) -> Reading:
    return Reading(TlsRouteSpec(("*",), (_NOWHERE,), _parents(spec)))


def _parents(spec: Raw) -> tuple[ParentRef, ...]:
    """Each as a whole, whatever port is meant."""
    read = part(spec, ("parentRefs",), Parents)
    whole = (replace(one, section_name=None, port=None) for one in (read.parent_refs if read else ()))
    return tuple(dict.fromkeys(whole))
