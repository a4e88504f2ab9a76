"""Providers of AuthorizationPolicies with the action CUSTOM -> `istio.security.Authorizer`."""

from agent.model.engine.view import View
from agent.model.schema.http_values import milliseconds
from agent.model.schema.istio.authorization_policy import AuthorizationPolicy
from agent.model.schema.istio.mesh_config import ExtAuthzGrpc, ExtAuthzHttp
from agent.model.translation.policy_values import string
from agent.model.translation.remotes import remote
from protocols.security_pb2 import Authorizer, HttpAuthorizer

_TIMEOUT = 600_000  # milliseconds: Istio's default
_STATUS = "403"


def authorizer(view: View, policy: AuthorizationPolicy) -> tuple[Authorizer | None, str]:
    """Whom a policy with the action CUSTOM asks (None: nobody, it denies), and what is wrong with it."""
    name = policy.spec.provider.name if policy.spec.provider else ""
    found = view.mesh.config.provider(name)
    if found is None:
        return None, f"none of the extensionProviders of --mesh-config is called {name!r}"
    settings = found.envoy_ext_authz_grpc or found.envoy_ext_authz_http
    if settings is None:
        return None, f"{name!r} is {found.kind}, which authorizes nothing"
    if settings.include_request_body_in_check:
        return None, f"{name!r} has includeRequestBodyInCheck, which is not supported"
    asked = _authorizer(view, policy, name, settings)
    return asked, asked.remote.problem


def _authorizer(view: View, policy: AuthorizationPolicy, name: str, settings: ExtAuthzGrpc) -> Authorizer:
    timeout = milliseconds(settings.timeout) if settings.timeout else _TIMEOUT
    called = remote(view, settings.service, settings.port, timeout, policy.metadata.namespace)
    return Authorizer(
        name=name,
        remote=called,
        fail_open=settings.fail_open,
        status_on_error=int(settings.status_on_error or _STATUS),
        http=_http(settings) if isinstance(settings, ExtAuthzHttp) else None,
    )


def _http(settings: ExtAuthzHttp) -> HttpAuthorizer:
    def headers(*names: str) -> list[str]:
        return [name.lower() for name in names]

    told = headers(*settings.include_headers_in_check, *settings.include_request_headers_in_check)
    return HttpAuthorizer(
        path_prefix=settings.path_prefix,
        request_headers=map(string, told),
        additional_headers=settings.include_additional_headers_in_check,
        to_upstream=map(string, headers(*settings.headers_to_upstream_on_allow)),
        to_downstream_on_deny=map(string, headers(*settings.headers_to_downstream_on_deny)),
        to_downstream_on_allow=map(string, headers(*settings.headers_to_downstream_on_allow)),
    )
