"""Policies that hold at gateways: for a pod, or for what comes in by one Gateway."""

from typing import Any

import pytest

from agent.model.model import apply
from agent.model.schema.objects import Object, key_of
from agent.model.translation.gateways.topology import ANNOTATION
from tests.agent.model.objects import addresses, changes, make, model_of, pod
from tests.agent.model.translation.gateways.tables import (
    INGRESS,
    gateway_class,
    hosts,
    ingress,
    kubernetes,
    listener,
    listeners,
    route,
    told,
)
from tests.agent.model.translation.routes.tables import Spec, backend

GROUP = "gateway.networking.k8s.io"
POD = "Kubernetes//Pod/edge/ingress"


def policy(
    name: str = "p", namespace: str = "default", kind: str = "AuthorizationPolicy", **spec: Any
) -> Object:
    return make(kind, name, namespace, spec=spec)


def attached(name: str = "door", kind: str = "Gateway", **more: Any) -> Object:
    return policy(targetRefs=[{"group": GROUP, "kind": kind, "name": name}], **more)


def test_a_policy_of_a_gateway_holds_there_alone() -> None:
    """Also where one pod serves several: what is allowed at one is not allowed at the other."""
    doors = [kubernetes(listener(hostname=f"{name}.com"), name=name) for name in ("door", "else")]
    routes = [route(parents=[{"name": name}], name=name) for name in ("door", "else")]
    found = hosts(gateway_class(), *doors, *routes, attached(), attached(namespace="edge"))
    assert {host: [*scope.policies] for host, scope in found.items()} == {
        "door.com": ["default/p"],
        "else.com": [],
    }


def test_tokens_and_classes_count_as_well() -> None:
    spec = {"targetRefs": [{"group": GROUP, "kind": "Gateway", "name": "door"}], "jwtRules": []}
    tokens = make("RequestAuthentication", "t", "default", spec=spec)
    of_class = [
        attached("warren", "GatewayClass", namespace=namespace) for namespace in ("istio-system", "default")
    ]
    found = hosts(gateway_class(), kubernetes(), route(), tokens, *of_class)["*"]
    assert [*found.policies] == ["default/converted_request_authentication_t", "istio-system/p"]


def test_connections_have_them_too() -> None:
    door = kubernetes(listener(protocol="TCP", port=70))
    share = route({"backendRefs": [backend("web")]}, kind="TCPRoute")
    [server] = told(gateway_class(), door, share, attached())[70].servers
    assert [*server.connections.policies] == ["default/p"]


def test_a_policy_comes_and_goes() -> None:
    model = model_of(gateway_class(), ingress(), kubernetes(), route())

    def policies() -> list[str]:
        return [*listeners(model).listeners[0].servers[0].http.hosts[0].scope.policies]

    assert policies() == []
    model, _ = apply(model, changes(attached()))
    assert policies() == ["default/p"]
    model, _ = apply(model, [(key_of(attached()), None)])
    assert policies() == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (attached("x"), "Gateway x is ignored: no gateway of Warren's and no waypoint has this name"),
        (attached("warren", "GatewayClass"), "only policies of namespace istio-system are for a whole class"),
        (
            attached("x", "GatewayClass", namespace="istio-system"),
            "no class of Warren's or waypoints' has this name",
        ),
        (attached(), ""),
        (attached("warren", "GatewayClass", namespace="istio-system"), ""),
    ],
)
def test_a_target_that_is_not_ours_is_told(item: Object, reason: str) -> None:
    model = model_of(gateway_class(), kubernetes(), item)
    assert reason in model.problems.get(key_of(item), "") and bool(reason) == bool(model.problems)


def test_a_target_that_comes_later_is_told_no_more() -> None:
    model = model_of(gateway_class(), attached())
    assert model.problems
    assert not apply(model, changes(kubernetes()))[0].problems


def test_ports_of_a_gateways_policy_are_its_own() -> None:
    item = attached(rules=[{"to": [{"operation": {"ports": ["80"]}}]}])
    assert not model_of(gateway_class(), kubernetes(), item).problems


def test_plain_text_is_what_gateways_are_for() -> None:
    """STRICT is for workloads; policies by label or namespace hold."""
    strict = make("PeerAuthentication", "default", "istio-system", spec={"mtls": {"mode": "STRICT"}})
    own = policy(namespace="edge", selector={"matchLabels": {"istio": "ingressgateway"}})
    found = addresses(model_of(ingress(), strict, own))[POD].workload
    assert [*found.authorization_policies] == ["edge/p"]


@pytest.mark.parametrize(
    ("config", "trusted", "heads"),
    [
        ('{"gatewayTopology": {"numTrustedProxies": 2}}', 2, False),
        ("gatewayTopology:\n  numTrustedProxies: 1\n  proxyProtocol: {}\nconcurrency: 2", 1, True),
        ("gatewayTopology: {numTrustedProxies: -1}", 0, False),
        ("[" * 5000, 0, False),
        ("", 0, False),
    ],
)
def test_what_stands_before_it_is_told(config: str, trusted: int, heads: bool) -> None:
    item = annotated({ANNOTATION: config})
    model = model_of(item, gateway_class(), kubernetes())
    found = listeners(model)
    assert (found.trusted_proxies, [one.proxy_protocol for one in found.listeners]) == (trusted, [heads])
    wrong = "-1" in config or "[[" in config
    assert (f"annotation {ANNOTATION} is ignored" in "".join(model.problems.values())) == wrong


def annotated(annotations: Spec) -> Object:
    return pod("ingress", "10.0.9.1", namespace="edge", labels=dict(INGRESS), annotations=annotations)
