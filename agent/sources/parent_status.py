"""`status.parents[]` of the Gateway API's routes: our entries among those of other controllers."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from agent.model.schema.gateway.base import ParentRef
from agent.model.translation.gateways.attachments import CONTROLLER
from agent.model.translation.routes.status import MESH, Condition, ParentStatus

_OURS = (MESH, CONTROLLER)


class Said(NamedTuple):
    """One condition of one parent. parent: the reference as JSON; current: for the object's generation."""

    controller: str
    parent: str
    type: str
    status: str
    reason: str
    message: str
    current: bool = True


class _Condition(msgspec.Struct, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class _Parent(msgspec.Struct, rename="camel", frozen=True):
    parent_ref: Any = None
    controller_name: str = ""
    conditions: tuple[_Condition, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    parents: tuple[_Parent, ...] = ()


class _Metadata(msgspec.Struct):
    generation: int = 0


class _Route(msgspec.Struct):
    metadata: _Metadata
    status: _Status = _Status()


def wanted(statuses: Iterable[ParentStatus]) -> frozenset[Said]:
    """What our entries have to say."""
    return frozenset(_said(status, one) for status in statuses for one in status.conditions)


def told(text: bytes) -> frozenset[Said]:
    """What our entries say in an object as an API server has it; nothing of what cannot be read."""
    if not any(one.encode() in text for one in _OURS):
        return frozenset()
    try:
        route = msgspec.json.decode(text, type=_Route)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()
    return frozenset(
        Said(
            parent.controller_name,
            json.dumps(parent.parent_ref, sort_keys=True),
            *(one.type, one.status, one.reason, one.message),
            one.observed_generation == route.metadata.generation,
        )
        for parent in route.status.parents
        if parent.controller_name in _OURS
        for one in parent.conditions
    )


def entries(said: Iterable[Said], now: str, former: Iterable[Any], generation: int) -> list[Any]:
    """The whole of `status.parents`: others' entries as they are, then ours.

    now: when a condition changes that was otherwise, RFC 3339.
    """
    others = [one for one in former if one.get("controllerName") not in _OURS]
    own = [one for one in former if one.get("controllerName") in _OURS]
    since = {
        (json.dumps(one.get("parentRef"), sort_keys=True), condition.get("type"), condition.get("status")): (
            condition.get("lastTransitionTime")
        )
        for one in own
        for condition in one.get("conditions") or ()
    }
    ours: dict[str, Any] = {}
    for one in sorted(said):
        entry = ours.setdefault(
            one.parent, {"parentRef": json.loads(one.parent), "controllerName": one.controller}
        )
        entry.setdefault("conditions", []).append(
            {
                "type": one.type,
                "status": one.status,
                "reason": one.reason,
                "message": one.message,
                "observedGeneration": generation,
                "lastTransitionTime": since.get((one.parent, one.type, one.status)) or now,
            }
        )
    return [*others, *ours.values()]


def _said(of: ParentStatus, one: Condition) -> Said:
    status = "True" if one.status else "False"
    return Said(of.controller, _reference(of.parent), one.type, status, one.reason, one.message)


def _reference(parent: ParentRef) -> str:
    fields = {"namespace": parent.namespace, "sectionName": parent.section_name, "port": parent.port}
    written = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(
        {"group": parent.group, "kind": parent.kind, "name": parent.name, **written}, sort_keys=True
    )
