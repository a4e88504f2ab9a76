"""What Gateways, their listeners and ListenerSets are told to be."""

from typing import Any

import pytest

from agent.model.model import gateway_statuses
from agent.model.schema.objects import Key, Object
from agent.model.translation.gateways.attachments import ONE_GATEWAY
from agent.model.translation.gateways.status import ListenerStatus, Status
from tests.agent.model.objects import make, model_of, pod, service
from tests.agent.model.translation.gateways.tables import (
    INGRESS,
    gateway_class,
    ingress,
    kubernetes,
    listener,
    route,
)
from tests.agent.model.translation.routes.tables import Spec, backend, web

DOOR = Key("KubernetesGateway", "default", "door")
CERTIFICATE = {"certificateRefs": [{"name": "c"}]}


def statuses(*items: Object) -> dict[Key, Status]:
    return gateway_statuses(model_of(gateway_class(), *items))


def door(*items: Object) -> Status:
    return statuses(ingress(), *items)[DOOR]


def said(status: Status | ListenerStatus) -> dict[str, str]:
    """The reasons of conditions, with a ! where they do not hold."""
    return {one.type: ("" if one.status else "!") + one.reason for one in status.conditions}


def test_a_gateway_that_is_served() -> None:
    found = door(kubernetes(), route(), web())
    assert said(found) == {"Accepted": "Accepted", "Programmed": "Programmed"}
    assert [*map(str, found.addresses)] == ["10.0.9.1"]
    [one] = found.listeners or ()
    assert (one.name, one.kinds, one.attached) == ("http", ("HTTPRoute", "GRPCRoute"), 1)
    assert said(one) == {
        "Accepted": "Accepted",
        "Conflicted": "!NoConflicts",
        "ResolvedRefs": "ResolvedRefs",
        "Programmed": "Programmed",
    }


def test_its_address_is_its_services() -> None:
    own = service("edge", selector=dict(INGRESS), clusterIP="10.1.0.1", metadata={"namespace": "edge"})
    assert [*map(str, door(kubernetes(), own).addresses)] == ["10.1.0.1"]


def test_a_gateway_without_a_pod_waits() -> None:
    found = statuses(kubernetes())[DOOR]
    assert said(found) == {"Accepted": "Accepted", "Programmed": "!Pending"}


def test_what_is_of_others_is_theirs() -> None:
    theirs = [gateway_class("else", "example.com/other"), kubernetes(gatewayClassName="else")]
    assert [*statuses(*theirs)] == [Key("GatewayClass", "", "warren")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"protocol": "UDP"}, {"Accepted": "!UnsupportedProtocol", "Programmed": "!Invalid"}),
        (
            {"protocol": "HTTPS", "tls": {"options": {"a.b/c": "d"}}},
            {"ResolvedRefs": "!InvalidCertificateRef", "Programmed": "!Invalid"},
        ),
        (
            {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "c", "kind": "ConfigMap"}]}},
            {"ResolvedRefs": "!InvalidCertificateRef"},
        ),
        (
            {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "c", "namespace": "x"}]}},
            {"ResolvedRefs": "!RefNotPermitted"},
        ),
        ({"protocol": "HTTPS", "tls": CERTIFICATE}, {"ResolvedRefs": "ResolvedRefs"}),
        ({"allowedRoutes": {"kinds": [{"kind": "TCPRoute"}]}}, {"ResolvedRefs": "!InvalidRouteKinds"}),
    ],
)
def test_a_listener_that_is_not_as_it_should_be(spec: Spec, expected: dict[str, str]) -> None:
    [one] = door(kubernetes({**listener(), **spec})).listeners or ()
    assert said(one).items() >= expected.items()


def test_kinds_that_are_not_for_a_protocol_are_left_out() -> None:
    kinds = [{"kind": "TCPRoute"}, {"kind": "HTTPRoute"}]
    [one] = door(kubernetes(listener(allowedRoutes={"kinds": kinds}))).listeners or ()
    assert one.kinds == ("HTTPRoute",)


def test_the_first_of_a_port_says_what_it_speaks() -> None:
    both = [listener("a", 80), listener("b", 80, "TCP"), listener("c", 81)]
    found = door(kubernetes(*both))
    assert [said(one)["Conflicted"] for one in found.listeners or ()] == [
        "!NoConflicts",
        "ProtocolConflict",
        "!NoConflicts",
    ]
    assert said(found) == {"Accepted": "ListenersNotValid", "Programmed": "Programmed"}


def test_tls_is_one_speech_whoever_ends_it() -> None:
    ended = listener("a", 443, "HTTPS", hostname="a.com", tls=CERTIFICATE)
    passed = listener("b", 443, "TLS", hostname="b.com", tls={"mode": "Passthrough"})
    found = door(kubernetes(ended, passed)).listeners or ()
    assert [said(one)["Conflicted"] for one in found] == ["!NoConflicts", "!NoConflicts"]


def test_gateways_share_pods_as_far_as_their_listeners_differ() -> None:
    """The older one has the port and hostname, unless one of them has pods of its own."""
    ours = [listener("a", 80), listener("b", 80, hostname="b.com"), listener("c", 80, "TCP")]
    older = make(
        "KubernetesGateway", "aaa", spec={"gatewayClassName": "warren", "listeners": [listener("x", 80)]}
    )
    found = door(older, kubernetes(*ours)).listeners or ()
    reasons = [said(one)["Conflicted"] for one in found]
    assert reasons == ["HostnameConflict", "!NoConflicts", "ProtocolConflict"]
    assert said(found[0])["Programmed"] == "!Invalid"
    own = "give one of the Gateways pods of its own (gateway.networking.k8s.io/gateway-name)"
    assert found[0].conditions[1].message == f"Gateway default/aaa x has this hostname on port 80; {own}"
    labels = {**INGRESS, ONE_GATEWAY: "aaa"}
    [one] = door(older, kubernetes(), pod("own", "10.0.9.2", labels=labels)).listeners or ()
    assert said(one)["Conflicted"] == "!NoConflicts"


def test_addresses_that_are_asked_for_are_its_own() -> None:
    for address, expected in (
        ({"value": "10.0.9.1"}, {"Accepted": "Accepted", "Programmed": "Programmed"}),
        ({"value": "192.0.2.1"}, {"Accepted": "Accepted", "Programmed": "!AddressNotUsable"}),
        (
            {"type": "test/x", "value": "x"},
            {"Accepted": "!UnsupportedAddress", "Programmed": "!Invalid"},
        ),
    ):
        assert said(door(kubernetes(addresses=[address]))) == expected


def listener_set(*listeners: Spec, namespace: str = "default") -> Object:
    spec = {"parentRef": {"name": "door", "namespace": "default"}, "listeners": list(listeners)}
    return make("ListenerSet", "more", namespace, spec=spec)


@pytest.mark.parametrize(
    ("allowed", "added", "expected"),
    [
        ("Same", listener("x", 81), {"Accepted": "Accepted", "Programmed": "Programmed"}),
        ("None", listener("x", 81), {"Accepted": "!NotAllowed", "Programmed": "!NotAllowed"}),
        ("Same", listener("x", 80), {"Accepted": "!ListenersNotValid", "Programmed": "!Invalid"}),
    ],
)
def test_a_set_adds_what_its_gateway_allows(allowed: str, added: Spec, expected: dict[str, str]) -> None:
    more: dict[str, Any] = {"allowedListeners": {"namespaces": {"from": allowed}}}
    found = statuses(ingress(), kubernetes(**more), listener_set(added))
    assert said(found[Key("ListenerSet", "default", "more")]) == expected
    assert [one.name for one in found[DOOR].listeners or ()] == ["http"]


def test_a_class_takes_no_parameters() -> None:
    parameters = {"group": "a.b", "kind": "C", "name": "d"}
    spec = {"controllerName": "warren.dev/gateway-controller", "parametersRef": parameters}
    own = make("GatewayClass", "own", spec=spec)
    assert said(statuses(own)[Key("GatewayClass", "", "own")]) == {"Accepted": "!InvalidParameters"}


def test_routes_are_counted_where_they_attach() -> None:
    two = kubernetes(listener("a", 80), listener("b", 81, hostname="b.com"))
    share: Spec = {"backendRefs": [backend("web")]}
    routes = [
        route(share, name="one", parents=[{"sectionName": "a"}]),
        route(share, name="two", hostnames=["b.com"]),
        route(share, name="three", hostnames=["c.com"]),
    ]
    assert [one.attached for one in door(two, *routes, web()).listeners or ()] == [3, 1]
