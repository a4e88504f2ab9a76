"""DestinationRule -> its part of `warren.routes.ServiceRoutes`: subsets, and how destinations are reached."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from agent.model.engine.kind import NETWORKING, Descriptor, Raw, Reading
from agent.model.engine.reading import part
from agent.model.mesh import Mesh
from agent.model.resources import ROUTES
from agent.model.schema.istio.destination_rule import DestinationRule, DestinationRuleSpec
from agent.model.schema.istio.traffic_policy import ClientTls, TrafficPolicy
from agent.model.schema.objects import Key
from agent.model.translation.routes import dependants
from agent.model.translation.routes.destinations import asked_labels
from agent.model.translation.routes.problems import of_destination_rule

_NOBODY = DestinationRuleSpec("refused.invalid")


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    """Its subsets do not exist, and where it may ask for TLS nothing is sent in the clear.

    That holds for clients of all namespaces.
    """
    wide = part(spec, ("host",), DestinationRuleSpec) or _NOBODY
    read = part(spec, ("host", "workloadSelector"), DestinationRuleSpec) or wide
    tls = TrafficPolicy(tls=ClientTls("SIMPLE")) if _asks_for_tls(spec) else None
    return Reading(replace(read, traffic_policy=tls))


def _asks_for_tls(raw: Any) -> bool:
    if isinstance(raw, dict):
        return "tls" in raw or any(map(_asks_for_tls, raw.values()))
    return isinstance(raw, list) and any(map(_asks_for_tls, raw))


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    """Rules that send to its host may be anybody's."""
    return type_url == ROUTES


def _asks(item: DestinationRule) -> Iterator[str]:
    yield from asked_labels(item)


KIND = Descriptor(
    "DestinationRule",
    *NETWORKING,
    "destinationrules",
    DestinationRule,
    critical=True,  # without it something would be sent in the clear
    index=dependants.destination_rule_index,
    dependants=dependants.of_destination_rule,
    problems=of_destination_rule,
    may_make=_may_make,
    strictest=_strictest,
    asks=_asks,
)
