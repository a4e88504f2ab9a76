"""VirtualService -> its part of `warren.routes.ServiceRoutes`, one for each hostname of a service."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from agent.model.engine.kind import NETWORKING, Derived, Descriptor, Raw, Reading
from agent.model.engine.reading import list_, part
from agent.model.mesh import Mesh
from agent.model.resources import ROUTES
from agent.model.schema.istio.http_rule import DirectResponse, HttpRule
from agent.model.schema.istio.route_values import Destination
from agent.model.schema.istio.virtual_service import (
    RouteDestination,
    TcpRule,
    VirtualService,
    VirtualServiceSpec,
)
from agent.model.schema.objects import Key
from agent.model.translation.routes import dependants, service_routes
from agent.model.translation.routes.names import ROUTES as NAME
from agent.model.translation.routes.problems import of_virtual_service

_REFUSED = HttpRule(direct_response=DirectResponse(503))
_NOWHERE = TcpRule((RouteDestination(Destination("refused.invalid")),))


def _asks(item: VirtualService) -> Iterator[str]:
    matches = [match for rule in item.spec.http for match in rule.match]
    connections = [match for rule in item.spec.l4 for match in rule.match]
    for match in (*matches, *connections):
        yield from match.source_labels


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    """For the hosts that are understood, and the clients of all namespaces: nothing of it is sent on."""
    plain = {**spec, "http": [{"directResponse": {"status": 503}}]}
    fields = (("hosts", "gateways", "http"), ("hosts", "http"))
    readings = (part(plain, names, VirtualServiceSpec) for names in fields)
    read = next(filter(None, readings), VirtualServiceSpec(http=(_REFUSED,)))
    l4 = (_NOWHERE,) if read.hosts and (list_(spec.get("tcp")) or list_(spec.get("tls"))) else ()
    return Reading(replace(read, tcp=l4))


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Its hosts may be any."""
    return type_url == ROUTES


KIND = Descriptor(
    "VirtualService",
    *NETWORKING,
    "virtualservices",
    VirtualService,
    critical=True,  # without it requests go where they must not
    index=dependants.virtual_service_index,
    dependants=dependants.of_virtual_service,
    problems=of_virtual_service,
    may_make=_may_make,
    strictest=_strictest,
    asks=_asks,
    derived=(Derived(NAME, service_routes.translate),),
)
