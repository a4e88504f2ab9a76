"""RequestAuthentication -> `istio.security.Authorization` that denies nobody: it says which tokens are valid.

Workloads name it, wait for it and are told of its changes as of policies, which is what its claims are for.
The strictest reading of one that is refused denies all requests, and no connection whose requests are not
seen.
"""

from agent.model.engine.refusal import said
from agent.model.schema.istio.request_authentication import JwtRule, RequestAuthentication
from agent.model.translation.authorization import NEVER
from agent.model.translation.policy_values import scope
from protocols.policies import TOKENS
from protocols.security_pb2 import Action, Authorization, ClaimToHeader, JwtHeader, RequestRule, Rule
from protocols.security_pb2 import JwtRule as RuleMessage

_ALL_REQUESTS = Rule(clauses=NEVER.clauses, request=RequestRule())
# Where a token is looked for if nothing else is said.
_HEADER, _PARAMETER = JwtHeader(name="authorization", prefix="Bearer "), "access_token"


def request_authentication(item: RequestAuthentication) -> Authorization:
    """The tokens of an object as the tunnels are told them."""
    return Authorization(
        name=TOKENS + item.metadata.name,
        namespace=item.metadata.namespace,
        scope=scope(item),
        action=Action.DENY,
        refused=said(item),
        rules=[_ALL_REQUESTS] if item.strictest else [],
        jwt_rules=map(_rule, item.spec.jwt_rules),
    )


def policy_name(item: RequestAuthentication) -> str:
    """By which workloads name it."""
    return f"{item.metadata.namespace}/{TOKENS}{item.metadata.name}"


def is_converted(policy: str) -> bool:
    """Whether a policy, by `namespace/name`, was made of a RequestAuthentication."""
    return policy.partition("/")[2].startswith(TOKENS)


def _rule(rule: JwtRule) -> RuleMessage:
    anywhere = not (rule.from_headers or rule.from_params or rule.from_cookies)
    headers = [JwtHeader(name=one.name.lower(), prefix=one.prefix) for one in rule.from_headers]
    claims = (
        ClaimToHeader(header=one.header.lower(), claim=one.claim) for one in rule.output_claim_to_headers
    )
    return RuleMessage(
        issuer=rule.issuer,
        audiences=rule.audiences,
        jwks=rule.jwks,
        from_headers=[_HEADER] if anywhere else headers,
        from_params=[_PARAMETER] if anywhere else rule.from_params,
        from_cookies=rule.from_cookies,
        output_payload_to_header=rule.output_payload_to_header.lower(),
        output_claim_to_headers=claims,
        forward_original_token=rule.forward_original_token,
        space_delimited_claims=rule.space_delimited_claims,
    )
