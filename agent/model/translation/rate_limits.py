"""RateLimitPolicy -> `istio.security.Authorization` that neither lets in nor denies: its rules have limits.

Workloads name it, wait for it and are told of its changes as of policies.
"""

from collections.abc import Iterator

from agent.model.engine.view import View
from agent.model.schema.http_values import milliseconds
from agent.model.schema.rate_limit_policy import (
    CLAIM,
    HEADER,
    KEYS,
    Descriptor,
    Global,
    LimitRule,
    RateLimitPolicy,
)
from agent.model.translation.authorization import read_rule
from agent.model.translation.policy_values import scope
from agent.model.translation.remotes import remote
from protocols.policies import LIMITS
from protocols.security_pb2 import (
    CONSTANT,
    DAY,
    HOUR,
    MINUTE,
    REMOTE_IP,
    REQUEST_HEADER,
    REQUEST_HOST,
    REQUEST_METHOD,
    REQUEST_PATH,
    SECOND,
    SOURCE_IP,
    SOURCE_NAMESPACE,
    SOURCE_PRINCIPAL,
    TOKEN_CLAIM,
    TOKEN_PRINCIPAL,
    Action,
    Authorization,
    RateLimit,
    Remote,
    Rule,
    SharedLimit,
)
from protocols.security_pb2 import Descriptor as DescriptorMessage

_SUBJECTS = dict(
    zip(
        KEYS,
        (
            *(SOURCE_PRINCIPAL, SOURCE_NAMESPACE, SOURCE_IP, REMOTE_IP),
            *(REQUEST_HOST, REQUEST_METHOD, REQUEST_PATH, TOKEN_PRINCIPAL),
        ),
        strict=True,
    )
)
_UNITS = {"second": SECOND, "minute": MINUTE, "hour": HOUR, "day": DAY}


def rate_limits(view: View, policy: RateLimitPolicy) -> Authorization:
    """The policy as the tunnels are told it."""
    return Authorization(
        name=LIMITS + policy.metadata.name,
        namespace=policy.metadata.namespace,
        scope=scope(policy),
        action=Action.LIMIT,
        rules=[_rule(view, policy, rule) for rule in policy.spec.rules],
    )


def problems(view: View, policy: RateLimitPolicy) -> Iterator[str]:
    """What does not work as it is written."""
    for number, rule in enumerate(policy.spec.rules):
        message, lost = _matching(policy, rule)
        for name in message.unjudged.split(", ") if rule.connections and message.unjudged else lost:
            yield f"rules[{number}]: {name} cannot be judged, so that whatever fits the rest of it is limited"
        if rule.global_ and (problem := _remote(view, policy, rule.global_).problem):
            does = "is refused" if rule.global_.failure_mode == "Deny" else "is not limited"
            yield f"rules[{number}].global.service: {problem}: what the rule matches {does}"


def _rule(view: View, policy: RateLimitPolicy, rule: LimitRule) -> Rule:
    message, _ = _matching(policy, rule)
    if rule.connections:
        message.ClearField("request")
    message.limit.CopyFrom(_limit(view, policy, rule))
    return message


def _matching(policy: RateLimitPolicy, rule: LimitRule) -> tuple[Rule, list[str]]:
    return read_rule(rule, policy.metadata.namespace, allows=False, of_workload=not policy.targets)


def _limit(view: View, policy: RateLimitPolicy, rule: LimitRule) -> RateLimit:
    told = RateLimit(by=map(_descriptor, rule.by))
    if limit := rule.limit:
        told.requests, told.unit, told.burst = limit.requests, _UNITS[limit.per], limit.burst or 0
    if connections := rule.connections:
        told.connections.concurrent = connections.concurrent or 0
        if connections.new:
            told.requests, told.unit = connections.new, _UNITS[connections.per]
            told.burst = connections.burst or 0
    if by := rule.global_:
        told.shared.CopyFrom(
            SharedLimit(
                remote=_remote(view, policy, by),
                domain=by.domain,
                fail_open=by.failure_mode == "Allow",
                hits=by.hits_addend,
            )
        )
    return told


def _remote(view: View, policy: RateLimitPolicy, by: Global) -> Remote:
    host, _, port = by.service.rpartition(":")
    return remote(view, host, int(port), milliseconds(by.timeout), policy.metadata.namespace)


def _descriptor(one: Descriptor) -> DescriptorMessage:
    if one.value:
        return DescriptorMessage(subject=CONSTANT, path=[one.value], name=one.name or "generic_key")
    if header := HEADER.fullmatch(one.key):
        name = header[1].lower()
        return DescriptorMessage(subject=REQUEST_HEADER, path=[name], name=one.name or name)
    if claim := CLAIM.fullmatch(one.key):
        steps = claim[1][1:-1].split("][")
        return DescriptorMessage(subject=TOKEN_CLAIM, path=steps, name=one.name or ".".join(steps))
    return DescriptorMessage(subject=_SUBJECTS[one.key], name=one.name or KEYS[one.key])
