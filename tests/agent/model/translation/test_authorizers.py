"""Whom an AuthorizationPolicy with the action CUSTOM asks."""

from typing import Any

import msgspec
import pytest

from agent.model.mesh import Mesh
from agent.model.model import Model
from agent.model.schema.istio.mesh_config import MeshConfig
from agent.model.schema.objects import Key, Object
from protocols.security_pb2 import Action, Authorization, Authorizer, HttpAuthorizer, Remote, StringMatch
from tests.agent.model.objects import make, model_of, policies, service

GRPC: dict[str, Any] = {"service": "asked.default.svc.cluster.local", "port": 9000}
REMOTE = Remote(
    namespace="default", hostname="asked.default.svc.cluster.local", port=9000, timeout_ms=600_000
)


def model(*objects: Object, **provider: Any) -> Model:
    """With a policy that asks a provider of this kind."""
    config = msgspec.convert({"extensionProviders": [{"name": "x", **provider}]}, MeshConfig)
    spec = {"action": "CUSTOM", "provider": {"name": "x"}, "rules": [{}]}
    policy = make("AuthorizationPolicy", "p", spec=spec)
    return model_of(*objects, policy, base=Model(Mesh(config=config)))


def told(*objects: Object, **provider: Any) -> Authorization:
    return policies(model(*objects, **provider))["default/p"]


ASKED = service("asked", ports=[{"port": 9000}])


def test_who_does_not_know_of_authorizers_denies() -> None:
    message = told(ASKED, envoyExtAuthzGrpc=GRPC)
    assert message.action == Action.DENY
    assert message.authorizer == Authorizer(name="x", remote=REMOTE, status_on_error=403)


def test_every_setting_is_told() -> None:
    settings = {**GRPC, "timeout": "1s", "failOpen": True, "statusOnError": "503"}
    grpc = told(ASKED, envoyExtAuthzGrpc=settings).authorizer
    assert (grpc.remote.timeout_ms, grpc.fail_open, grpc.status_on_error) == (1000, True, 503)
    http = {
        "pathPrefix": "/check",
        "includeRequestHeadersInCheck": ["X-A", "x-b-*"],
        "includeAdditionalHeadersInCheck": {"x-c": "d"},
        "headersToUpstreamOnAllow": ["X-Up"],
        "headersToDownstreamOnAllow": ["x-down"],
        "headersToDownstreamOnDeny": ["*-denied"],
    }
    assert told(ASKED, envoyExtAuthzHttp={**settings, **http}).authorizer.http == HttpAuthorizer(
        path_prefix="/check",
        request_headers=[StringMatch(exact="x-a"), StringMatch(prefix="x-b-")],
        additional_headers={"x-c": "d"},
        to_upstream=[StringMatch(exact="x-up")],
        to_downstream_on_allow=[StringMatch(exact="x-down")],
        to_downstream_on_deny=[StringMatch(suffix="-denied")],
    )


def test_a_service_that_is_not_there_is_told() -> None:
    without = model(envoyExtAuthzGrpc=GRPC)
    problem = "there is no Service asked.default.svc.cluster.local"
    assert policies(without)["default/p"].authorizer.remote.problem == problem
    key = Key("AuthorizationPolicy", "default", "p")
    assert without.problems[key] == f"provider: {problem}: what the policy matches is denied"
    assert policies(model_of(ASKED, base=without))["default/p"].authorizer.remote == REMOTE
    opened = model(envoyExtAuthzGrpc={**GRPC, "failOpen": True})
    assert opened.problems[key].endswith("goes on unasked (failOpen)")


@pytest.mark.parametrize(
    ("provider", "problem"),
    [
        ({"prometheus": {}}, "'x' is prometheus, which authorizes nothing"),
        (
            {"envoyExtAuthzGrpc": {**GRPC, "includeRequestBodyInCheck": {"maxRequestBytes": 1}}},
            "'x' has includeRequestBodyInCheck, which is not supported",
        ),
    ],
)
def test_who_cannot_be_asked_denies(provider: dict[str, Any], problem: str) -> None:
    denying = model(ASKED, **provider)
    message = policies(denying)["default/p"]
    assert (message.action, message.HasField("authorizer")) == (Action.DENY, False)
    key = Key("AuthorizationPolicy", "default", "p")
    assert denying.problems[key] == f"provider: {problem}: what the policy matches is denied"
