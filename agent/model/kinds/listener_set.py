"""ListenerSet: listeners that others than its owner add to a Gateway."""

from collections.abc import Iterator

from agent.model.engine.kind import GATEWAY, Descriptor
from agent.model.engine.store import Entry
from agent.model.schema.gateway.gateway import ListenerSet
from agent.model.translation.gateways import attachments, dependants


def _index(item: ListenerSet) -> Iterator[Entry]:
    parent = item.spec.parent_ref
    yield attachments.ADDED_TO, parent.namespace or item.metadata.namespace, parent.name


KIND = Descriptor(
    "ListenerSet",
    GATEWAY,
    ("v1",),
    "listenersets",
    ListenerSet,
    index=_index,
    dependants=dependants.of_listener_set,
)
