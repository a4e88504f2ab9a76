"""ReferenceGrant: permits routes of other namespaces to send to Services of its own."""

from agent.model.engine.kind import GATEWAY, Descriptor
from agent.model.schema.gateway.l4_routes import ReferenceGrant
from agent.model.translation.routes import dependants

KIND = Descriptor(
    "ReferenceGrant",
    GATEWAY,
    ("v1beta1", "v1"),
    "referencegrants",
    ReferenceGrant,
    critical=True,  # without it routes answer with 500
    dependants=dependants.of_grant,
)
