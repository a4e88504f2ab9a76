"""The Gateway API's Gateways, ListenerSets and routes -> what a gateway's pod listens on."""

from typing import Any

import pytest

from agent.model.model import apply, parents
from agent.model.schema.objects import Object, key_of
from tests.agent.model.objects import changes, make, model_of, pod
from tests.agent.model.translation.gateways.tables import (
    INGRESS,
    answers,
    gateway,
    gateway_class,
    hosts,
    http_server,
    ingress,
    kubernetes,
    listener,
    listeners,
    route,
    told,
)
from tests.agent.model.translation.routes.tables import Spec, backend, to, virtual_service, web

API = {"backendRefs": [backend("api")]}


def with_class(*items: Object, **where: Any) -> dict[str, Any]:
    return hosts(gateway_class(), *items, **where)


def test_an_attached_route_answers() -> None:
    found = with_class(kubernetes(), route())
    assert {host: answers(scope) for host, scope in found.items()} == {"*": ["web"]}


def test_a_gateway_of_another_class_is_others_to_serve() -> None:
    for others in ([], [gateway_class(controller="example.com/other")], [gateway_class("else")]):
        assert told(kubernetes(), route(), *others) == {}


def test_what_is_in_conflict_is_told_and_not_served() -> None:
    """The older Gateway has the port and hostname: what is attached to the other one answers nothing."""
    both = [kubernetes(name="aaa"), kubernetes()]
    assert with_class(*both, route()) == {}
    [conflict] = listeners(model_of(gateway_class(), ingress(), *both)).conflicts
    taken = "Gateway default/door http: HostnameConflict: Gateway default/aaa http has this hostname"
    assert conflict.startswith(taken)


def test_a_port_that_tunnels_come_to_is_no_listeners() -> None:
    message = listeners(model_of(gateway_class(), ingress(), kubernetes(listener(port=15008))))
    told = "port 15008: port 15008 of the pod is for what comes through tunnels"
    assert (len(message.listeners), [*message.conflicts]) == (0, [told])


def test_pods_of_its_own_take_a_gateway_from_the_others() -> None:
    items = [gateway_class(), ingress(), kubernetes()]
    own = pod("own", "10.0.9.2", labels={**INGRESS, "gateway.networking.k8s.io/gateway-name": "door"})
    model, _ = apply(model_of(*items), changes(own))
    assert model == model_of(*items, own) and not listeners(model).listeners
    assert apply(model, [(key_of(own), None)])[0] == model_of(*items)


def test_a_pod_may_be_for_one_gateway() -> None:
    labels = {**INGRESS, "gateway.networking.k8s.io/gateway-name": "door"}
    for namespace, expected in (("edge", 1), ("default", 0)):
        items = [gateway_class(), ingress(labels=labels), kubernetes(namespace=namespace)]
        assert len(listeners(model_of(*items)).listeners) == expected


@pytest.mark.parametrize(
    ("own", "written", "expected"),
    [
        (None, [], ["*"]),
        (None, ["a.com"], ["a.com"]),
        ("a.com", [], ["a.com"]),
        ("*.a.com", ["b.a.com", "a.com", "*.c.a.com"], ["*.c.a.com", "b.a.com"]),
        ("b.a.com", ["*.a.com"], ["b.a.com"]),
        ("a.com", ["b.com"], []),
    ],
)
def test_hosts_are_those_of_both(own: str | None, written: list[str], expected: list[str]) -> None:
    named: dict[str, Any] = {"hostname": own} if own else {}
    door = kubernetes(listener(**named))
    assert sorted(with_class(door, route(hostnames=written))) == expected


@pytest.mark.parametrize(
    ("parent", "ports"),
    [({}, [80, 81]), ({"sectionName": "two"}, [81]), ({"port": 80}, [80]), ({"sectionName": "x"}, [])],
)
def test_a_parent_is_a_gateway_or_a_part_of_it(parent: Spec, ports: list[int]) -> None:
    door = kubernetes(listener("one"), listener("two", 81))
    found = told(gateway_class(), door, route(parents=[parent]))
    assert [port for port, one in found.items() if one.servers[0].http.hosts] == ports


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ({}, False),
        ({"namespaces": {"from": "All"}}, True),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}, True),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "c"}}}}, False),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}, False),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]}, True),
    ],
)
def test_listeners_say_whose_routes_they_take(allowed: Spec, expected: bool) -> None:
    theirs = make("Namespace", "theirs", labels={"a": "b"})
    door, service = kubernetes(listener(allowedRoutes=allowed)), web(namespace="theirs")
    found = with_class(door, theirs, service, route(namespace="theirs"))
    assert bool(found) == expected


def test_a_request_is_for_the_listener_that_names_its_host_best_and_for_no_other() -> None:
    """Also where a route of a wider one names that host, and where the best one has no route."""
    names = {"wide": "*.a.com", "narrow": "x.a.com", "bare": "y.a.com"}
    written = [listener("any"), *(listener(name, hostname=host) for name, host in names.items())]
    wide = [{"sectionName": "wide"}]
    routes = [
        route({"backendRefs": [backend("any")]}, name="any", parents=[{"sectionName": "any"}]),
        route(API, name="wide", parents=wide, hostnames=["*.a.com", "x.a.com", "z.a.com"]),
        route(name="narrow", parents=[{"sectionName": "narrow"}]),
    ]
    found = with_class(kubernetes(*written), web("any"), *routes)
    assert {host: answers(scope) for host, scope in found.items()} == {
        "*": ["any"],
        "*.a.com": ["api"],
        "x.a.com": ["web"],
        "y.a.com": [],
        "z.a.com": ["api"],
    }


def test_precedence_is_that_of_the_specification_across_routes() -> None:
    path = {"matches": [{"path": {"value": "/a"}}], **API}
    found = with_class(kubernetes(), route(name="any"), route(path, name="path"))
    assert answers(found["*"]) == ["api", "web"]


def test_routes_come_before_virtual_services_of_the_same_host() -> None:
    theirs = virtual_service({"route": [to("api")]}, hosts=["*"], gateways=["istios"])
    items = [kubernetes(), route(), gateway(http_server(), name="istios"), theirs]
    assert answers(with_class(*items)["*"]) == ["web", "api"]


def test_others_may_add_listeners() -> None:
    added = make(
        "ListenerSet", "more", spec={"parentRef": {"name": "door"}, "listeners": [listener(port=81)]}
    )
    own = route(parents=[{"kind": "ListenerSet", "name": "more"}])
    for allowed, expected in (("Same", [80, 81]), ("All", [80, 81]), ("None", [80])):
        door = kubernetes(allowedListeners={"namespaces": {"from": allowed}})
        assert [*told(gateway_class(), door, added, own)] == expected, allowed
    assert [*told(gateway_class(), kubernetes(), added, own)] == [80], "by default none"
    door = kubernetes(allowedListeners={"namespaces": {"from": "Same"}})
    assert with_class(door, added, own, port=81) and not with_class(door, added, own)


def test_connections() -> None:
    passed = listener("tls", 443, "TLS", hostname="a.com", tls={"mode": "Passthrough"})
    door = kubernetes(passed, listener("tcp", 5432, "TCP"))
    by_sni = route(kind="TLSRoute", name="sni", hostnames=["a.com"], parents=[{"sectionName": "tls"}])
    found = told(gateway_class(), door, by_sni, route(kind="TCPRoute", name="tcp"))
    [server] = found[443].servers
    assert server.sni_hosts == ["a.com"] and server.connections.tls[0].matches[0].sni_hosts == ["a.com"]
    [server] = found[5432].servers
    assert len(server.connections.tcp) == 1 and not server.connections.tls


def test_it_is_translated_again_when_something_of_it_changes() -> None:
    """As if all of it were translated."""
    added = make(
        "ListenerSet", "more", spec={"parentRef": {"name": "door"}, "listeners": [listener(port=81)]}
    )
    selector = {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}
    items = [
        *(ingress(), gateway_class(), web(), added, make("Namespace", "default", labels={"a": "b"})),
        kubernetes(listener(allowedRoutes=selector), allowedListeners={"namespaces": {"from": "Same"}}),
        route(parents=[{}, {"kind": "ListenerSet", "name": "more"}]),
    ]
    whole = model_of(*items)
    for item in items:
        model, _ = apply(model_of(*(one for one in items if one is not item)), changes(item))
        assert model.resources == whole.resources, key_of(item)
        model, _ = apply(whole, [(key_of(item), None)])
        assert model.resources == model_of(*(one for one in items if one is not item)).resources, key_of(item)


@pytest.mark.parametrize(
    ("door", "own", "reason"),
    [
        (listener(), {}, "Accepted"),
        (listener(), {"parents": [{"sectionName": "x"}]}, "NoMatchingParent"),
        (listener(), {"namespace": "theirs"}, "NotAllowedByListeners"),
        (listener(allowedRoutes={"kinds": [{"kind": "GRPCRoute"}]}), {}, "NotAllowedByListeners"),
        (listener(hostname="a.com"), {"hostnames": ["b.com"]}, "NoMatchingListenerHostname"),
    ],
)
def test_a_routes_status_says_whether_a_gateway_takes_it(door: Spec, own: Spec, reason: str) -> None:
    item = route(**own)
    items = [gateway_class(), kubernetes(door), web(), web(namespace="theirs"), item]
    [told] = parents(model_of(*items), key_of(item))
    accepted = told.conditions[0]
    assert (accepted.status, accepted.reason) == (reason == "Accepted", reason)
    assert told.controller == "warren.dev/gateway-controller"
    assert parents(model_of(kubernetes(door), item), key_of(item)) == [], "others' class: theirs to say"
