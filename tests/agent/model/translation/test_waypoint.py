"""Labels that ask for a waypoint -> what has to be passed before a service or a pod."""

from typing import Any

import pytest

from agent.model.model import Model, apply
from agent.model.schema.objects import Object, key_of
from protocols.workload_pb2 import GatewayAddress
from tests.agent.model.objects import changes, make, model_of, pod, service, service_of, workload

LABEL, OF_NAMESPACE, FOR = "istio.io/use-waypoint", "istio.io/use-waypoint-namespace", "istio.io/waypoint-for"
HOST = "way.default.svc.cluster.local"
NOWHERE = "way.invalid"


def waypoint(namespace: str = "default", status: Any = None, kind: str = "", allowed: str = "Same") -> Object:
    routes = {"namespaces": {"from": allowed}}
    listener = {"name": "mesh", "port": 15008, "protocol": "HBONE", "allowedRoutes": routes}
    spec = {"gatewayClassName": "istio-waypoint", "listeners": [listener]}
    labels = {FOR: kind} if kind else {}
    fields = {"status": status} if status else {}
    return make("KubernetesGateway", "way", namespace, spec=spec, labels=labels, **fields)


def own(namespace: str = "default") -> Object:
    """The waypoint's Service."""
    labels = {"gateway.istio.io/managed": "istio.io-mesh-controller"}
    return service("way", [{"port": 15008}], metadata={"labels": labels, "namespace": namespace})


def using(name: str = "way", **more: str) -> Object:
    return service("web", metadata={"labels": {LABEL: name, **more}})


def labelled(**labels: str) -> Object:
    return make("Namespace", "default", labels=labels)


def passed(model: Model) -> str:
    """Before the service `web`."""
    message = service_of(model, "web")
    return written(message.waypoint) if message.HasField("waypoint") else ""


def written(address: GatewayAddress) -> str:
    assert address.hbone_mtls_port == 15008
    named = address.hostname.hostname
    return named or ".".join(map(str, address.address.address))


def test_a_service_names_it_or_its_namespace_does() -> None:
    for items in ([using()], [service("web"), labelled(**{LABEL: "way"})]):
        assert passed(model_of(waypoint(), own(), *items)) == HOST
    for items in ([using("none"), labelled(**{LABEL: "way"})], [service("web")]):
        assert passed(model_of(waypoint(), own(), *items)) == ""


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([{"type": "Hostname", "value": "w.example"}], "w.example"),
        ([{"type": "IPAddress", "value": "10.1.0.9"}], "10.1.0.9"),
        ([{"value": "10.1.0.9"}], "10.1.0.9"),
        ("nonsense", NOWHERE),
        ([], NOWHERE),
    ],
)
def test_its_address_is_its_status_or_its_services(addresses: Any, expected: str) -> None:
    gateway = waypoint(status={"addresses": addresses, "conditions": []})
    assert passed(model_of(gateway, using())) == expected


def test_while_it_is_not_there_nothing_goes_past_it() -> None:
    model = model_of(using())
    assert passed(model) == NOWHERE
    assert "Gateway default/way is not there; connections are refused" in model.problems[key_of(using())]
    model, _ = apply(model, changes(waypoint()))
    assert passed(model) == NOWHERE and "has no address" in model.problems[key_of(using())]
    model, _ = apply(model, changes(own()))
    assert passed(model) == HOST and not model.problems
    model, _ = apply(model, [(key_of(waypoint()), None)])
    assert passed(model) == NOWHERE


def test_one_of_another_namespace_has_to_allow_it() -> None:
    mine = using(**{OF_NAMESPACE: "shared"})
    for allowed, expected in (("Same", NOWHERE), ("All", "way.shared.svc.cluster.local")):
        model = model_of(waypoint("shared", allowed=allowed), own("shared"), mine)
        assert passed(model) == expected
        told = model.problems.get(key_of(mine), "")
        assert ("does not allow namespace default" in told) == (expected == NOWHERE)


@pytest.mark.parametrize(
    ("kind", "services", "workloads"),
    [("", HOST, ""), ("service", HOST, ""), ("workload", "", HOST), ("all", HOST, HOST), ("none", "", "")],
)
def test_what_it_is_for(kind: str, services: str, workloads: str) -> None:
    model = model_of(waypoint(kind=kind), own(), using(), pod("a", labels={LABEL: "way"}))
    assert passed(model) == services
    message = workload(model, "a")
    assert (written(message.waypoint) if message.HasField("waypoint") else "") == workloads
    assert ("is not for services" in model.problems.get(key_of(using()), "")) == (not services)


def test_it_is_not_behind_itself() -> None:
    pods = pod("way-1", labels={"gateway.networking.k8s.io/gateway-name": "way"})
    model = model_of(waypoint(kind="all"), own(), pods, labelled(**{LABEL: "way"}))
    assert not service_of(model, "way").HasField("waypoint")
    assert not workload(model, "way-1").HasField("waypoint")


def test_a_label_moves_a_services_policies_to_it() -> None:
    """As long as it is there; others stay with the workloads."""
    spec: dict[str, Any] = {"targetRefs": [{"group": "", "kind": "Service", "name": "web"}]}
    attached = make("AuthorizationPolicy", "attached", "default", spec=spec)
    selecting = make(
        "AuthorizationPolicy", "selecting", "default", spec={"selector": {"matchLabels": {"app": "web"}}}
    )
    model = model_of(service("web"), pod("a", labels={"app": "web"}), attached, selecting)

    def policies() -> list[str]:
        return [*workload(model, "a").authorization_policies]

    assert policies() == ["default/attached", "default/selecting"]
    model, _ = apply(model, changes(using()))
    assert policies() == ["default/attached", "default/selecting"], "there is none"
    model, _ = apply(model, changes(waypoint(), own()))
    assert policies() == ["default/selecting"]
    model, _ = apply(model, changes(service("web")))
    assert policies() == ["default/attached", "default/selecting"]


def test_limits_stay_with_the_workloads() -> None:
    """Of them a waypoint knows nothing."""
    target = [{"group": "", "kind": "Service", "name": "web"}]
    spec = {"targetRefs": target, "rules": [{"limit": {"requests": 5, "per": "minute"}}]}
    limits = make("RateLimitPolicy", "r", "default", spec=spec)
    model = model_of(waypoint(), own(), using(), pod("a", labels={"app": "web"}), limits)
    assert [*workload(model, "a").authorization_policies] == ["default/converted_rate_limit_policy_r"]


def test_policies_of_a_waypoint_are_its_own() -> None:
    group = "gateway.networking.k8s.io"
    spec = {"targetRefs": [{"group": group, "kind": "Gateway", "name": "way"}]}
    assert not model_of(waypoint(), make("AuthorizationPolicy", "p", "default", spec=spec)).problems
