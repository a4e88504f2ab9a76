"""The Gateway API's Gateway -> its part of what the pods of gateways listen on."""

from collections.abc import Iterator

from agent.model.engine.kind import GATEWAY, Descriptor
from agent.model.engine.store import Entry
from agent.model.schema.gateway.gateway import KubernetesGateway
from agent.model.translation.gateways import attachments, dependants

_VERSIONS = ("v1", "v1beta1")


def _index(item: KubernetesGateway) -> Iterator[Entry]:
    yield attachments.GATEWAYS


KIND = Descriptor(
    "KubernetesGateway",
    GATEWAY,
    _VERSIONS,
    "gateways",
    KubernetesGateway,
    index=_index,
    dependants=dependants.of_gateway,
    kind="Gateway",
)
