"""HTTPRoute -> its part of the routes of Services and ServiceEntries that are its parents."""

from agent.model.engine.kind import GATEWAY, Descriptor
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.translation.routes import dependants, gateway_kinds
from agent.model.translation.routes.problems import of_route

KIND = Descriptor(
    "HTTPRoute",
    GATEWAY,
    ("v1", "v1beta1"),
    "httproutes",
    HTTPRoute,
    critical=True,
    index=dependants.route_index,
    dependants=dependants.of_route,
    problems=of_route,
    may_make=gateway_kinds.may_make,
    strictest=gateway_kinds.strictest_http,
)
