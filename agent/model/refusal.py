"""What a refused policy still says: its last good version, else its strictest reading.

A policy closes something: to leave one out because a part of it is not understood would open what its author
has closed. So a refused policy is an object like any other, and lets in nobody whom it might have kept out,
had it been understood:

| not understood | reading |
| --- | --- |
| a part of a rule of ALLOW | the rule allows nothing |
| a part of a rule of DENY, CUSTOM or AUDIT | it fits everybody; AUDIT enforces nothing all the same |
| the action, or all of the spec | everybody is denied |
| anything of a PeerAuthentication | STRICT, without exceptions |
| anything of a Sidecar | REGISTRY_ONLY |
| the selector, or targetRefs | all of the namespace, or (root) of the mesh; ALLOW allows nothing |
| the annotation for a dry run | it is none; ALLOW allows nothing |
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace

from agent.model.istio import DRY_RUN, REVISION, Dated
from agent.model.objects import Key, Labels, Object
from agent.model.security import (
    Action,
    AnySelector,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    From,
    Mtls,
    Operation,
    PartOfRule,
    PeerAuthentication,
    PeerAuthenticationSpec,
    Policy,
    Refusal,
    Rule,
    Selector,
    Source,
    To,
    When,
)
from agent.model.sidecar import Outbound, Sidecar, SidecarSpec

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
Raw: TypeAlias = Mapping[str, Any]

_LONGEST = 200  # characters of a reason, in every line that is written of a connection


def strictest(type_: Any, key: Key, raw: Any, reason: str) -> Policy | None:
    """The strictest reading of a refused object of a type; None: that closes nothing.

    raw: as it was written, in JSON's types; None where that cannot be read.
    """
    if type_ not in _READINGS:
        return None
    raw = raw if isinstance(raw, dict) else {"spec": None}
    spec = raw.get("spec", {})
    clear = isinstance(spec, dict) and raw.keys() <= _names(type_)
    read = _READINGS[type_](spec if isinstance(spec, dict) else {}, clear)
    written = raw.get("metadata")
    dry_run = _dry_run(_get(written, "annotations")) if _knows_dry_run(type_, spec) else {}
    since = _read({"name": "any", "creationTimestamp": _get(written, "creationTimestamp")}, Dated)
    revision = _get(_get(written, "labels"), REVISION)
    metadata = Dated(
        key.name,
        labels={REVISION: revision} if isinstance(revision, str) else {},
        namespace=key.namespace,
        annotations=dry_run or {},
        creation_timestamp=since.creation_timestamp if since else "",
    )
    refusal = Refusal(reason, strictest=True)
    policy: Policy = type_(
        metadata=metadata, spec=_allowing_nothing(read) if dry_run is None else read, refusal=refusal
    )
    return policy


def last_good(former: Object | None, reason: str) -> Object | None:
    """What was in force of an object before it was refused, if that is a version as it was written."""
    if not isinstance(former, Policy):
        return former
    return None if former.strictest else replace(former, refusal=Refusal(reason, strictest=False))


def said(policy: Policy) -> str:
    """That a policy is refused, why, and what is in force of it: the end of a sentence; empty: it is not."""
    return f"refused ({policy.refusal.reason:.{_LONGEST}}): {consequence(policy)}" if policy.refusal else ""


def standing(item: Object | None) -> str:
    """What to add to the reason for which an object is refused: what is in force of it, if it is a policy."""
    return f"; {consequence(item)}" if isinstance(item, Policy) and item.refusal else ""


def consequence(policy: Policy) -> str:
    """What is in force of a refused policy."""
    if not policy.strictest:
        return "a good version stays in force"
    match policy:
        case AuthorizationPolicy():
            return _let_in(policy)
        case PeerAuthentication():
            return "plain text is refused"
    return "REGISTRY_ONLY is in force"


def _let_in(policy: AuthorizationPolicy) -> str:
    spec = policy.spec
    if policy.dry_run or spec.action == "AUDIT":
        return "it enforces nothing"
    if spec.action == "ALLOW":
        return "nobody is let in beyond what is understood"
    everybody = any(not (rule.from_ or rule.to or rule.when) for rule in spec.rules)
    return "nobody is let in" if everybody else "whoever might match is denied"


def _knows_dry_run(type_: type[Policy], spec: Any) -> bool:
    return type_.knows_dry_run and _get(spec, "action") not in ("AUDIT", "CUSTOM")


def _dry_run(annotations: Any) -> Labels | None:
    """The annotation for a dry run; None: it is not understood."""
    if annotations is None or (isinstance(annotations, dict) and DRY_RUN not in annotations):
        return {}
    marked = {"name": "any", "annotations": {DRY_RUN: _get(annotations, DRY_RUN)}}
    policy = _read({"metadata": marked}, AuthorizationPolicy)
    return policy.metadata.annotations if policy else None


def _allowing_nothing(spec: S) -> S:
    """Where ALLOW may restrict more than was meant, it must not allow more there than other policies do."""
    allows = isinstance(spec, AuthorizationPolicySpec) and spec.action == "ALLOW"
    return replace(spec, rules=(PartOfRule(),)) if allows else spec


def _authorization(spec: Raw, clear: bool) -> AuthorizationPolicySpec:
    """clear: whether nothing beside the spec is unknown, which could be a part of it at a wrong place."""
    clear = clear and spec.keys() <= _names(AuthorizationPolicySpec)
    whom = _part(spec, ("selector", "targetRef", "targetRefs"), AuthorizationPolicySpec)
    action = spec.get("action", "ALLOW" if clear else "")
    rules = spec.get("rules", [])
    if action not in get_args(Action):
        action, clear = "DENY", False
    if not clear or not isinstance(rules, list) or (action != "ALLOW" and not rules):
        rules = [None]
    action = "DENY" if action == "CUSTOM" else action
    read = replace(whom or AuthorizationPolicySpec(), action=action, rules=tuple(map(_rule, rules)))
    return read if whom else _allowing_nothing(read)


def _rule(raw: Any) -> Rule:
    if whole := _read(raw, Rule):
        return whole
    when = (_conditions(one, When, ("key",)) for one in _list(_get(raw, "when")))
    return PartOfRule(
        _entries(_get(raw, "from"), "source", Source, From),
        _entries(_get(raw, "to"), "operation", Operation, To),
        tuple(one for one in when if one),
    )


def _entries(raw: Any, name: str, type_: type[Struct], entry: Callable[[Any], T]) -> tuple[T, ...] | None:
    """Any of them is enough: where one is not understood at all, anybody might fit, as without entries."""
    blocks = [_conditions(_get(one, name), type_) for one in _list(raw)]
    return tuple(map(entry, blocks)) if blocks and all(blocks) else None


def _conditions(raw: Any, type_: type[T], needed: tuple[str, ...] = ()) -> T | None:
    """All of them have to hold: those fields that are understood by themselves; None: there are none.

    needed: fields that say what the others mean.
    """
    if not isinstance(raw, dict):
        return None
    always = {name: raw[name] for name in needed if name in raw}
    fit = {name: value for name, value in raw.items() if _read({**always, name: value}, type_)}
    return _read({**always, **fit}, type_)


def _authentication(spec: Raw, clear: bool) -> PeerAuthenticationSpec:
    clear = clear and spec.keys() <= _names(PeerAuthenticationSpec) and "portLevelMtls" not in spec
    selector = _read(spec.get("selector", {}), Selector)
    understood = selector is not None and (clear or bool(selector.match_labels))
    return PeerAuthenticationSpec(selector if selector and understood else AnySelector(), Mtls("STRICT"))


def _sidecar(spec: Raw, clear: bool) -> SidecarSpec:
    whom = _part(spec, ("workloadSelector",), SidecarSpec) or SidecarSpec()
    return replace(whom, outbound_traffic_policy=Outbound("REGISTRY_ONLY"))


def _part(spec: Raw, names: tuple[str, ...], type_: type[T]) -> T | None:
    """These fields of a spec, if they are understood and go together."""
    return _read({name: spec[name] for name in names if name in spec}, type_)


def _get(raw: Any, name: str) -> Any:
    return raw.get(name) if isinstance(raw, dict) else None


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _read(raw: Any, type_: type[T]) -> T | None:
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError:
        return None


def _names(type_: type[Struct]) -> set[str]:
    return {field.encode_name for field in fields(type_)}


_READINGS: dict[type[Object], Callable[[Raw, bool], Struct]] = {
    AuthorizationPolicy: _authorization,
    PeerAuthentication: _authentication,
    Sidecar: _sidecar,
}
