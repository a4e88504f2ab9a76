"""RateLimitPolicy: what the tunnels are told of it, whom it is for, and what is refused."""

from typing import Any

import msgspec
import pytest

from agent.model.schema.objects import Key, Object
from protocols.security_pb2 import (
    CONSTANT,
    MINUTE,
    REMOTE_IP,
    REQUEST_HEADER,
    SOURCE_PRINCIPAL,
    TOKEN_CLAIM,
    Action,
    ConnectionLimit,
    Descriptor,
    RateLimit,
    Remote,
    Scope,
    SharedLimit,
)
from tests.agent.model.objects import make, model_of, pod, policies, service, workload

NAME = "default/converted_rate_limit_policy_r"
LIMIT: dict[str, Any] = {"requests": 5, "per": "minute"}
GLOBAL: dict[str, Any] = {
    "service": "limiter.infra.svc.cluster.local:8081",
    "domain": "d",
    "failureMode": "Deny",
}
BY: dict[str, Any] = {"by": [{"value": "all"}]}


def limiting(*rules: dict[str, Any], namespace: str = "default", **spec: Any) -> Object:
    return make("RateLimitPolicy", "r", namespace, spec={"rules": [*rules], **spec})


def limit(rule: dict[str, Any], *others: Object) -> RateLimit:
    return policies(model_of(limiting(rule), *others))[NAME].rules[0].limit


def test_a_limit_and_what_requests_are_told_apart_by() -> None:
    assert limit({"limit": LIMIT}) == RateLimit(requests=5, unit=MINUTE)
    by = [
        {"key": "source.principal"},
        {"key": "remote.ip", "name": "ip"},
        {"key": "request.headers[X-User]"},
        {"key": "request.auth.claims[a][b]"},
        {"value": "v"},
    ]
    assert limit({"limit": {**LIMIT, "burst": 9}, "by": by}) == RateLimit(
        requests=5,
        unit=MINUTE,
        burst=9,
        by=[
            Descriptor(subject=SOURCE_PRINCIPAL, name="source_principal"),
            Descriptor(subject=REMOTE_IP, name="ip"),
            Descriptor(subject=REQUEST_HEADER, path=["x-user"], name="x-user"),
            Descriptor(subject=TOKEN_CLAIM, path=["a", "b"], name="a.b"),
            Descriptor(subject=CONSTANT, path=["v"], name="generic_key"),
        ],
    )


def test_rules_match_as_those_of_an_authorization_policy() -> None:
    matching = {"to": [{"operation": {"methods": ["GET"]}}]}
    told = policies(model_of(limiting({**matching, "limit": LIMIT}, {"limit": LIMIT})))[NAME]
    denying = make("AuthorizationPolicy", "p", spec={"action": "DENY", "rules": [matching]})
    [rule] = policies(model_of(denying))["default/p"].rules
    first, second = told.rules
    assert (told.action, first.request) == (Action.LIMIT, rule.request)
    assert ([*second.clauses], second.HasField("request")) == ([], False)


def test_connections_are_limited_in_the_place_of_requests() -> None:
    by = {"by": [{"key": "source.principal"}]}
    told = limit({**by, "connections": {"concurrent": 3}})
    who = Descriptor(subject=SOURCE_PRINCIPAL, name="source_principal")
    assert told == RateLimit(by=[who], connections=ConnectionLimit(concurrent=3))
    told = limit({**by, "connections": {"new": 5, "per": "minute", "burst": 9}})
    assert told == RateLimit(requests=5, unit=MINUTE, burst=9, by=[who], connections=ConnectionLimit())
    asks = {"to": [{"operation": {"ports": ["80"], "methods": ["GET"]}}], "connections": {"concurrent": 3}}
    model = model_of(limiting(asks))
    [rule] = policies(model)[NAME].rules
    assert not rule.HasField("request")
    problem = model.problems[Key("RateLimitPolicy", "default", "r")]
    assert problem == "rules[0]: methods cannot be judged, so that whatever fits the rest of it is limited"


def test_a_service_that_counts() -> None:
    remote = Remote(namespace="infra", hostname="limiter.infra.svc.cluster.local", port=8081, timeout_ms=20)
    there = service("limiter", ports=[{"port": 8081}], metadata={"namespace": "infra"})
    told = limit({**BY, "global": GLOBAL}, there).shared
    assert told == SharedLimit(remote=remote, domain="d", hits=1)
    more = {**GLOBAL, "failureMode": "Allow", "timeout": "1s", "hitsAddend": 3}
    told = limit({**BY, "limit": LIMIT, "global": more}, there).shared
    assert (told.fail_open, told.remote.timeout_ms, told.hits) == (True, 1000, 3)


def test_a_service_that_is_not_there_is_told_until_it_is() -> None:
    model = model_of(limiting({**BY, "global": GLOBAL}))
    missing = "there is no Service limiter.infra.svc.cluster.local"
    assert policies(model)[NAME].rules[0].limit.shared.remote.problem == missing
    key = Key("RateLimitPolicy", "default", "r")
    assert model.problems[key] == f"rules[0].global.service: {missing}: what the rule matches is refused"
    other = service("limiter", ports=[{"port": 1}], metadata={"namespace": "infra"})
    model = model_of(limiting({**BY, "global": GLOBAL}), other)
    assert "has no port 8081" in model.problems[key]


def test_whom_it_is_for() -> None:
    web, other = pod("web", labels={"app": "web"}), pod("other", labels={"app": "other"})
    for spec in (
        {"selector": {"matchLabels": {"app": "web"}}},
        {"targetRefs": [{"kind": "Service", "name": "web"}]},
    ):
        model = model_of(web, other, service("web"), limiting({"limit": LIMIT}, **spec))
        assert policies(model)[NAME].scope == Scope.WORKLOAD_SELECTOR
        assert [[*workload(model, name).authorization_policies] for name in ("web", "other")] == [[NAME], []]
    assert policies(model_of(limiting({"limit": LIMIT})))[NAME].scope == Scope.NAMESPACE


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({}, "it limits nothing; write limit, global if a service"),
        ({"limit": {"requests": 0, "per": "second"}}, "Expected `int` >= 1"),
        ({"limit": {"requests": 1, "per": "week"}}, "Invalid enum value 'week'"),
        ({"limit": {"requests": 1}}, "missing required field `per`"),
        ({"limit": LIMIT, "by": [{}]}, "either key or value is needed"),
        ({"limit": LIMIT, "by": [{"key": "source.name"}]}, "'source.name' is no attribute of requests"),
        ({"limit": LIMIT, "by": [{"key": "request.headers[a b]"}]}, "a b"),
        ({"limit": LIMIT, "unlimited": True}, "unknown field `unlimited`"),
        ({"global": GLOBAL}, "needs a descriptor"),
        ({**BY, "global": {**GLOBAL, "service": "limiter"}}, "'limiter' is no host:port"),
        ({**BY, "global": {**GLOBAL, "timeout": "0s"}}, "not one or more whole milliseconds"),
        ({**BY, "global": {"service": "a:1", "domain": "d"}}, "missing required field `failureMode`"),
        ({**BY, "limit": {**LIMIT, "burst": 1}, "global": GLOBAL}, "have no burst"),
        ({"connections": {}}, "it limits nothing; write concurrent, new or both"),
        ({"connections": {"concurrent": 1, "burst": 1}}, "it is of new connections"),
        ({"connections": {"concurrent": 1}, "limit": LIMIT}, "write another rule for them"),
        ({"connections": {"concurrent": 1}, "by": [{"key": "request.path"}]}, "request.path is of requests"),
    ],
)
def test_what_is_refused(rule: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason.replace("[", r"\[")):
        limiting(rule)
