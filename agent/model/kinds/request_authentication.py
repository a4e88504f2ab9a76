"""RequestAuthentication -> `istio.security.Authorization` with the tokens that are valid."""

from collections.abc import Iterator
from typing import Any

from agent.model.engine.kind import SECURITY, Descriptor, Raw, Reading
from agent.model.engine.reading import part
from agent.model.engine.view import View
from agent.model.mesh import Mesh
from agent.model.resources import AUTHORIZATION, Resource, policy_resource
from agent.model.schema.istio.request_authentication import (
    RequestAuthentication,
    RequestAuthenticationSpec,
)
from agent.model.schema.objects import Key
from agent.model.translation.policy_selection import entries, ignored_targets, naming
from agent.model.translation.request_authentication import is_converted, request_authentication


def _translate(view: View, item: RequestAuthentication) -> Iterator[Resource]:
    yield policy_resource(request_authentication(item))


def _problems(view: View, item: RequestAuthentication) -> Iterator[str]:
    for number, rule in enumerate(item.spec.jwt_rules):
        if not rule.jwks:
            where = rule.jwks_uri or rule.issuer
            yield f"jwtRules[{number}]: no keys have been had from {where} yet: no token of it is valid"
    yield from ignored_targets(view, item)


def _strictest(spec: Raw, clear: bool, annotations: Any) -> Reading:
    """No request is let in where it may be for, whatever of its rules is understood."""
    whom = part(spec, ("selector", "targetRef", "targetRefs"), RequestAuthenticationSpec)
    return Reading(whom or RequestAuthenticationSpec())


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    return type_url == AUTHORIZATION and is_converted(name)


KIND = Descriptor(
    "RequestAuthentication",
    *SECURITY,
    "requestauthentications",
    RequestAuthentication,
    critical=True,
    index=entries,
    dependants=naming,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
    strictest=_strictest,
)
