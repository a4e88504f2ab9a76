"""RateLimitPolicy -> `istio.security.Authorization` with limits."""

from collections.abc import Iterator

from agent.model.engine.kind import WARREN, Descriptor
from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.mesh import Mesh
from agent.model.resources import AUTHORIZATION, Resource, policy_resource
from agent.model.schema.objects import Key
from agent.model.schema.rate_limit_policy import RateLimitPolicy
from agent.model.translation.policy_selection import entries, ignored_targets, naming
from agent.model.translation.rate_limits import problems, rate_limits
from agent.model.translation.remotes import ASKS
from protocols.policies import LIMITS


def _index(policy: RateLimitPolicy) -> Iterator[Entry]:
    yield from entries(policy)
    if any(rule.global_ for rule in policy.spec.rules):
        yield ASKS


def _translate(view: View, policy: RateLimitPolicy) -> Iterator[Resource]:
    yield policy_resource(rate_limits(view, policy))


def _problems(view: View, policy: RateLimitPolicy) -> Iterator[str]:
    yield from problems(view, policy)
    yield from ignored_targets(view, policy)


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    return type_url == AUTHORIZATION and name == f"{key.namespace}/{LIMITS}{key.name}"


KIND = Descriptor(
    "RateLimitPolicy",
    *WARREN,
    "ratelimitpolicies",
    RateLimitPolicy,
    index=_index,
    dependants=naming,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
)
