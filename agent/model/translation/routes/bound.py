"""To which of Istio's Gateways a VirtualService is bound."""

from collections.abc import Iterator

from agent.model.schema.istio.virtual_service import VirtualService

BOUND_TO = "bound to"  # index: VirtualServices by namespace and name of their Gateways


def bound_to(item: VirtualService) -> Iterator[tuple[str, str]]:
    """Namespaces and names."""
    for written in item.spec.bound_gateways:
        yield place_of(written, item.metadata.namespace)


def place_of(written: str, namespace: str) -> tuple[str, str]:
    """`namespace/name`, a name in the rule's namespace, or the DNS names of Istio's first versions."""
    before, slash, name = written.partition("/")
    if slash:
        return before, name
    name, dot, rest = written.partition(".")
    return (rest.partition(".")[0] if dot else namespace), name
