"""AuthorizationPolicy -> `istio.security.Authorization`."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

from msgspec import Struct
from msgspec.structs import replace

from agent.model.engine.kind import SECURITY, Descriptor, Raw, Reading
from agent.model.engine.reading import conditions, get, list_, names, part, read
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.mesh import Mesh
from agent.model.resources import AUTHORIZATION, Resource, policy_resource
from agent.model.schema.istio.authorization_policy import (
    Action,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    From,
    Operation,
    PartOfRule,
    Rule,
    Source,
    To,
    When,
)
from agent.model.schema.istio.base import DRY_RUN
from agent.model.schema.objects import Key, Labels
from agent.model.translation.authorization import authorization
from agent.model.translation.authorizers import authorizer
from agent.model.translation.policy_selection import entries, ignored_targets, naming
from agent.model.translation.remotes import ASKS

T = TypeVar("T")


def _index(policy: AuthorizationPolicy) -> Iterator[Entry]:
    yield from entries(policy)
    if policy.spec.action == "CUSTOM":
        yield ASKS


def _translate(view: View, policy: AuthorizationPolicy) -> Iterator[Resource]:
    message, _ = authorization(policy)
    if policy.spec.action == "CUSTOM":
        asked, _ = authorizer(view, policy)
        if asked:
            message.authorizer.CopyFrom(asked)
    yield policy_resource(message)


def _problems(view: View, policy: AuthorizationPolicy) -> Iterator[str]:
    yield from authorization(policy)[1]
    if policy.spec.action == "CUSTOM":
        asked, problem = authorizer(view, policy)
        does = "goes on unasked (failOpen)" if asked and asked.fail_open else "is denied"
        if problem:
            yield f"provider: {problem}: what the policy matches {does}"
    for number, rule in enumerate(policy.spec.rules):
        if any(value.startswith("spiffe://") for value in _principals(rule)):
            yield f"rules[{number}]: no principal begins with spiffe://, write DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
    yield from ignored_targets(view, policy)


def _principals(rule: Rule) -> Iterator[str]:
    for one in rule.from_ or ():
        yield from (*one.source.principals, *one.source.not_principals)
    for when in rule.when:
        if when.key == "source.principal":
            yield from (*when.values, *when.not_values)


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    """A dry run that is not understood is none, and of ALLOW nothing is left then."""
    dry_run = {} if spec.get("action") in ("AUDIT", "CUSTOM") else _dry_run(annotations)
    strict = _spec(spec, clear)
    return Reading(strict, dry_run) if dry_run is not None else Reading(_allowing_nothing(strict))


def _dry_run(annotations: Any) -> Labels | None:
    """The annotation for a dry run; None: it is not understood."""
    if annotations is None or (isinstance(annotations, dict) and DRY_RUN not in annotations):
        return {}
    marked = {"name": "any", "annotations": {DRY_RUN: get(annotations, DRY_RUN)}}
    policy = read({"metadata": marked}, AuthorizationPolicy)
    return policy.metadata.annotations if policy else None


def _allowing_nothing(spec: AuthorizationPolicySpec) -> AuthorizationPolicySpec:
    """Where ALLOW may restrict more than was meant, it must not allow more there than other policies do."""
    return replace(spec, rules=(PartOfRule(),)) if spec.action == "ALLOW" else spec


def _spec(spec: Raw, clear: bool) -> AuthorizationPolicySpec:
    """clear: whether nothing beside the spec is unknown, which could be a part of it at a wrong place."""
    clear = clear and spec.keys() <= names(AuthorizationPolicySpec)
    whom = part(spec, ("selector", "targetRef", "targetRefs"), AuthorizationPolicySpec)
    action = spec.get("action", "ALLOW" if clear else "")
    rules = spec.get("rules", [])
    if action not in get_args(Action):
        action, clear = "DENY", False
    if not clear or not isinstance(rules, list) or (action != "ALLOW" and not rules):
        rules = [None]
    action = "DENY" if action == "CUSTOM" else action
    strict = replace(whom or AuthorizationPolicySpec(), action=action, rules=tuple(map(_rule, rules)))
    return strict if whom else _allowing_nothing(strict)


def _rule(raw: Any) -> Rule:
    if whole := read(raw, Rule):
        return whole
    when = (conditions(one, When, ("key",)) for one in list_(get(raw, "when")))
    return PartOfRule(
        _entries(get(raw, "from"), "source", Source, From),
        _entries(get(raw, "to"), "operation", Operation, To),
        tuple(one for one in when if one),
    )


def _entries(raw: Any, name: str, type_: type[Struct], entry: Callable[[Any], T]) -> tuple[T, ...] | None:
    """Any of them is enough: where one is not understood at all, anybody might fit, as without entries."""
    blocks = [conditions(get(one, name), type_) for one in list_(raw)]
    return tuple(map(entry, blocks)) if blocks and all(blocks) else None


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    return type_url == AUTHORIZATION and name == f"{key.namespace}/{key.name}"


KIND = Descriptor(
    "AuthorizationPolicy",
    *SECURITY,
    "authorizationpolicies",
    AuthorizationPolicy,
    critical=True,
    index=_index,
    dependants=naming,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
    strictest=_strictest,
)
