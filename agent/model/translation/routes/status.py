"""What a route of the Gateway API is for each of its parents: conditions of `status.parents[]`."""

from collections.abc import Iterator
from typing import NamedTuple

from agent.model.engine.view import View
from agent.model.schema.gateway.base import ParentRef, Route
from agent.model.schema.gateway.grpc_route import GRPCRoute
from agent.model.schema.gateway.http_route import HTTPRoute
from agent.model.schema.gateway.l4_routes import TCPRoute
from agent.model.schema.objects import key_of
from agent.model.translation.gateways import attachments
from agent.model.translation.routes.backends import InvalidBackend, backend, refs_of
from agent.model.translation.routes.client import Client
from agent.model.translation.routes.parents import attachment, for_port, parent_of

MESH = "warren.dev/mesh-controller"
_HTTP = (HTTPRoute, GRPCRoute)


class Condition(NamedTuple):
    """One of `Accepted`, `ResolvedRefs` and `PartiallyInvalid`; of the last only what is true is told."""

    type: str
    status: bool
    reason: str
    message: str = ""


class ParentStatus(NamedTuple):
    """controller: the name under which we say it."""

    parent: ParentRef
    conditions: tuple[Condition, ...]
    controller: str = MESH


def parents(view: View, item: Route) -> list[ParentStatus]:
    """Of those parents that are services or gateways of ours: others have controllers of their own."""
    common = (_references(view, item), *_partial(item))
    return [
        ParentStatus(parent, (accepted, *common), MESH if parent.is_service else attachments.CONTROLLER)
        for parent in item.parents
        if (accepted := _accepted(view, item, parent))
    ]


def problems(view: View, item: Route) -> Iterator[str]:
    """All that is not as it should be."""
    for _, conditions, _ in parents(view, item):
        for one in conditions:
            if one.message and one.status == (one.type == "PartiallyInvalid"):
                yield f"{one.type}: {one.reason}: {one.message}"


def _accepted(view: View, item: Route, parent: ParentRef) -> Condition | None:
    """None: it is not ours to say."""
    if not parent.is_service and not attachments.parent_gateway(view, item, parent):
        return None
    if item.refusal:
        return Condition("Accepted", False, "UnsupportedValue", f"{item.refusal.reason}; {item.in_force}")
    if not parent.is_service:
        attached = attachments.attached(view, item, parent)
        return Condition("Accepted", bool(attached.places), attached.reason, attached.message)
    found = attachment(view, item, parent)
    if found.ports and (winner := _winner(view, item, parent, found.ports)):
        message = f"{key_of(winner)} is older, and holds alone"
        return Condition("Accepted", False, "Conflicted", message)
    return Condition("Accepted", bool(found.ports), found.reason, found.message)


def _winner(view: View, item: Route, parent: ParentRef, ports: tuple[int, ...]) -> Route | None:
    """Of kinds that exclude each other, and of TCPRoutes, the oldest, where it is another one."""
    service = parent_of(view, item, parent)
    if service is None or not isinstance(item, (*_HTTP, TCPRoute)):
        return None
    types = (TCPRoute,) if isinstance(item, TCPRoute) else _HTTP
    client = Client(item.metadata.namespace)
    hosts = iter(view.claims(service))
    parts = view.parts(next(hosts), service.metadata.namespace)
    first = [for_port(view, client, parts, port, types)[:1] for port in ports]
    others = [one for found in first for one in found if one is not item]
    excluded = [one for one in others if isinstance(item, TCPRoute) or type(one) is not type(item)]
    return excluded[0] if len(excluded) == len(ports) else None


def _references(view: View, item: Route) -> Condition:
    for ref in refs_of(item):
        try:
            backend(view, item, ref)
        except InvalidBackend as error:
            return Condition("ResolvedRefs", False, error.reason, str(error))
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def _partial(item: Route) -> Iterator[Condition]:
    if unsupported := sorted({*_unsupported(item)}):
        message = f"not supported: {', '.join(unsupported)}; requests that need it are answered with 500"
        yield Condition("PartiallyInvalid", True, "UnsupportedValue", message)


def _unsupported(item: Route) -> Iterator[str]:
    """Filters that answer with 500. Session persistence is only left out."""
    for rule in item.spec.rules:
        yield from (
            f"filter {one.type}" for one in getattr(rule, "filters", ()) if one.type == "ExtensionRef"
        )
        for ref in rule.backend_refs:
            for one in getattr(ref, "filters", ()):
                if one.type not in ("RequestHeaderModifier", "ResponseHeaderModifier"):
                    yield f"filter {one.type} of a backend"
        if getattr(rule, "session_persistence", None):
            yield "sessionPersistence"
