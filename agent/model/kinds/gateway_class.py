"""GatewayClass: which Gateways are ours."""

from agent.model.engine.kind import GATEWAY, Descriptor
from agent.model.schema.gateway.gateway import GatewayClass
from agent.model.translation.gateways import dependants

KIND = Descriptor(
    "GatewayClass",
    GATEWAY,
    ("v1", "v1beta1"),
    "gatewayclasses",
    GatewayClass,
    namespaced=False,
    dependants=dependants.of_class,
)
