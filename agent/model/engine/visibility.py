"""`exportTo`: which namespaces a service is for."""

from types import MappingProxyType

from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import Service
from protocols.workload_pb2 import NAMESPACE, PUBLIC, Visibility

_OF_SERVICES = "networking.istio.io/exportTo"
HIDING = MappingProxyType({_OF_SERVICES: "~"})  # the annotations of a Service that nobody is to see


def visibility(item: Service | ServiceEntry) -> Visibility | None:
    """For its own namespace, or for all; None: for nobody.

    The protocol has nothing in between: what is for several namespaces is for all.
    """
    wanted = exported_to(item)
    if not wanted:
        return PUBLIC
    if wanted == {"~"}:
        return None
    return NAMESPACE if wanted <= {".", item.metadata.namespace} else PUBLIC


def exported_to(item: Service | ServiceEntry) -> set[str]:
    """What its author wrote; nothing is all."""
    if isinstance(item, ServiceEntry):
        return set(item.spec.export_to)
    text = item.metadata.annotations.get(_OF_SERVICES)
    return {word.strip() for word in text.split(",") if word.strip()} if text else set()
