"""RequestAuthentication: what the tunnels are told of it, whom it is for, and what is refused."""

from typing import Any

import msgspec
import pytest

from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.schema.objects import Key, Object
from agent.model.translation.authorization import NEVER
from protocols.security_pb2 import Action, ClaimToHeader, JwtHeader, JwtRule, RequestRule, Rule, Scope
from tests.agent.model.objects import make, model_of, pod, policies, service, workload

NAME = "default/converted_request_authentication_r"
SET = '{"keys": []}'


def authentication(namespace: str = "default", **spec: Any) -> Object:
    return make("RequestAuthentication", "r", namespace, spec=spec)


def rule(**fields: Any) -> JwtRule:
    model = model_of(authentication(jwtRules=[{"issuer": "i", "jwks": SET, **fields}]))
    return policies(model)[NAME].jwt_rules[0]


def test_tokens_are_where_bearers_have_them_unless_it_says_otherwise() -> None:
    bearer = [JwtHeader(name="authorization", prefix="Bearer ")]
    assert rule() == JwtRule(issuer="i", jwks=SET, from_headers=bearer, from_params=["access_token"])
    named = rule(fromHeaders=[{"name": "X-Token", "prefix": "T "}])
    assert ([*named.from_headers], [*named.from_params]) == ([JwtHeader(name="x-token", prefix="T ")], [])
    assert ([*rule(fromParams=["t"]).from_headers], [*rule(fromCookies=["c"]).from_cookies]) == ([], ["c"])


def test_every_field_is_told() -> None:
    told = rule(
        audiences=["a", "b"],
        outputPayloadToHeader="X-Payload",
        outputClaimToHeaders=[{"header": "X-Sub", "claim": "n.m"}],
        forwardOriginalToken=True,
        spaceDelimitedClaims=["s"],
        timeout="1s",
    )
    assert ([*told.audiences], told.output_payload_to_header) == (["a", "b"], "x-payload")
    assert [*told.output_claim_to_headers] == [ClaimToHeader(header="x-sub", claim="n.m")]
    assert (told.forward_original_token, [*told.space_delimited_claims]) == (True, ["s"])


def test_whom_it_is_for() -> None:
    web, other = pod("web", labels={"app": "web"}), pod("other", labels={"app": "other"})
    mine = authentication(selector={"matchLabels": {"app": "web"}}, jwtRules=[])
    model = model_of(web, other, mine)
    assert policies(model)[NAME].scope == Scope.WORKLOAD_SELECTOR
    assert [[*workload(model, name).authorization_policies] for name in ("web", "other")] == [[NAME], []]
    attached = authentication(targetRefs=[{"kind": "Service", "group": "", "name": "s"}], jwtRules=[])
    model = model_of(web, other, service("s", selector={"app": "web"}), attached)
    assert [[*workload(model, name).authorization_policies] for name in ("web", "other")] == [[NAME], []]
    assert policies(model_of(authentication()))[NAME].scope == Scope.NAMESPACE
    of_mesh = policies(model_of(authentication("istio-system")))
    assert of_mesh["istio-system/converted_request_authentication_r"].scope == Scope.GLOBAL


def test_keys_that_are_not_there_yet_are_told() -> None:
    item = authentication(jwtRules=[{"issuer": "i", "jwksUri": "https://issuer/keys"}])
    [problem] = model_of(item).problems.values()
    assert (
        problem == "jwtRules[0]: no keys have been had from https://issuer/keys yet: no token of it is valid"
    )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"jwtRules": [{}]}, "issuer"),
        ({"jwtRules": [{"issuer": ""}]}, "issuer"),
        ({"jwtRules": [{"issuer": "i", "jwks": "no"}]}, "it is no JSON Web Key Set"),
        ({"jwtRules": [{"issuer": "i", "jwks": SET, "jwksUri": "http://a"}]}, "exclude each other"),
        ({"jwtRules": [{"issuer": "i", "jwksUri": "file:///keys"}]}, "is no http:// or https:// address"),
        ({"jwtRules": [{"issuer": "i", "fromHeaders": [{"name": "a b"}]}]}, "is no name of a header"),
        ({"jwtRules": [{"issuer": "i", "outputPayloadToHeader": "a:b"}]}, "is no name of a header"),
        ({"selector": {}, "targetRefs": []}, "exclude each other"),
        ({"jwtRulez": []}, "jwtRulez"),
    ],
)
def test_what_is_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        authentication(**spec)


@pytest.mark.parametrize(
    ("spec", "scope"),
    [
        ({"jwtRulez": []}, Scope.NAMESPACE),
        ({"selector": {"matchLabels": {"app": "web"}}, "jwtRules": [{}]}, Scope.WORKLOAD_SELECTOR),
        ({"selector": {"matchLabelz": {}}, "jwtRules": []}, Scope.NAMESPACE),
        (7, Scope.NAMESPACE),
    ],
)
def test_the_strictest_reading_of_one_that_is_refused_denies_all_requests(spec: Any, scope: int) -> None:
    """And no connections: a port that is not HTTP has no tokens."""
    kind, raw = (
        KINDS["RequestAuthentication"],
        {"metadata": {"name": "r", "namespace": "default"}, "spec": spec},
    )
    policy = strictest(kind, Key(kind.name, "default", "r"), raw, "no")
    assert policy
    told = policies(model_of(policy))[NAME]
    assert (told.scope, told.action, [*told.jwt_rules]) == (scope, Action.DENY, [])
    assert [*told.rules] == [Rule(clauses=NEVER.clauses, request=RequestRule())]
    assert told.refused == "refused (no): all requests are denied"
