"""GRPCRoute -> its part of the routes of Services and ServiceEntries that are its parents."""

from agent.model.engine.kind import GATEWAY, Descriptor
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.translation.routes import dependants, gateway_kinds
from agent.model.translation.routes.problems import of_route

KIND = Descriptor(
    "GRPCRoute",
    GATEWAY,
    ("v1",),
    "grpcroutes",
    GRPCRoute,
    critical=True,
    index=dependants.route_index,
    dependants=dependants.of_route,
    problems=of_route,
    may_make=gateway_kinds.may_make,
    strictest=gateway_kinds.strictest_grpc,
)
