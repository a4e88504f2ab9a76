"""RequestAuthentication -> `istio.security.Authorization` with the tokens that are valid."""

from collections.abc import Iterator

from agent.model.engine.invalidation import endpoints_of
from agent.model.engine.kind import SECURITY, Descriptor
from agent.model.engine.store import Entry
from agent.model.engine.view import ServiceLike, View
from agent.model.mesh import Mesh
from agent.model.resources import AUTHORIZATION, Resource, policy_resource
from agent.model.schema.istio.request_authentication import RequestAuthentication
from agent.model.schema.objects import Key
from agent.model.translation.policy_selection import selected_by
from agent.model.translation.request_authentication import is_converted, request_authentication


def _index(item: RequestAuthentication) -> Iterator[Entry]:
    namespace = item.metadata.namespace
    yield from (("policy", namespace, *label) for label in sorted(item.selector.items())[:1])
    for target in item.targets:
        if target.is_service:
            yield from (("attached", namespace), ("attached", namespace, target.kind, target.name))


def _dependants(view: View, item: RequestAuthentication) -> Iterator[Key]:
    """The workloads that have to name it."""
    yield from selected_by(view, item)
    for target in item.targets:
        service = view.store.objects.get(Key(target.kind, item.metadata.namespace, target.name))
        if isinstance(service, ServiceLike):
            yield from endpoints_of(view, service)


def _translate(view: View, item: RequestAuthentication) -> Iterator[Resource]:
    yield policy_resource(request_authentication(item))


def _problems(view: View, item: RequestAuthentication) -> Iterator[str]:
    for number, rule in enumerate(item.spec.jwt_rules):
        if not rule.jwks:
            where = rule.jwks_uri or rule.issuer
            yield f"jwtRules[{number}]: no keys have been had from {where} yet: no token of it is valid"
    for target in item.targets:
        if not target.is_service:
            yield f"targetRefs: {target.kind} {target.name} is ignored: this version has no waypoints"


def _may_make(mesh: Mesh, key: Key, type_url: str, name: str) -> bool:
    return type_url == AUTHORIZATION and is_converted(name)


KIND = Descriptor(
    "RequestAuthentication",
    *SECURITY,
    "requestauthentications",
    RequestAuthentication,
    critical=True,
    index=_index,
    dependants=_dependants,
    translate=_translate,
    problems=_problems,
    may_make=_may_make,
)
