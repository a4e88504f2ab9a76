"""The Gateway API's conformance cases of statuses and of who may refer to whom, under the suite's names."""

from typing import Any

import pytest

from agent.model.model import Model, apply, gateway_statuses, parents
from agent.model.schema.objects import Key, Object, key_of
from agent.model.translation.gateways.status import ListenerStatus
from tests.agent.model.objects import changes, make, model_of
from tests.agent.model.translation.gateways.tables import (
    gateway_class,
    hosts,
    ingress,
    kubernetes,
    listener,
    listeners,
    route,
)
from tests.agent.model.translation.routes.tables import Spec, backend, web

DOOR = Key("KubernetesGateway", "default", "door")
MORE = Key("ListenerSet", "default", "more")
THEIRS: Spec = {"backendRefs": [{**backend("web"), "namespace": "theirs"}]}
FROM_ALL: dict[str, Any] = {"allowedListeners": {"namespaces": {"from": "All"}}}


def mesh(*items: Object) -> Model:
    return model_of(gateway_class(), ingress(), web(), web(namespace="theirs"), *items)


def told(model: Model, key: Key = DOOR) -> dict[str, ListenerStatus]:
    return {one.name: one for one in gateway_statuses(model)[key].listeners or ()}


def reasons(model: Model, item: Object, type_: str = "Accepted") -> list[str]:
    """Of a route, for each parent, with a ! where the condition does not hold."""
    said = [one for told in parents(model, key_of(item)) for one in told.conditions if one.type == type_]
    return [("" if one.status else "!") + one.reason for one in said]


def grant(
    kind: str, to: Spec, namespace: str = "default", from_group: str = "gateway.networking.k8s.io"
) -> Object:
    spec = {"from": [{"group": from_group, "kind": kind, "namespace": namespace}], "to": [to]}
    return make("ReferenceGrant", "grant", "theirs", spec=spec)


SERVICE, SECRET = {"group": "", "kind": "Service"}, {"group": "", "kind": "Secret"}
WRONG_GRANTS = [
    [],
    [grant("HTTPRoute", {**SERVICE, "name": "other"})],
    [grant("HTTPRoute", SERVICE, namespace="elsewhere")],
    [grant("HTTPRoute", SERVICE, from_group="example.com")],
    [grant("GRPCRoute", SERVICE)],
    [grant("HTTPRoute", SECRET)],
]


@pytest.mark.parametrize("grants", WRONG_GRANTS)
def test_http_route_invalid_reference_grant(grants: list[Object]) -> None:
    """HTTPRouteInvalidReferenceGrant, and HTTPRoutePartiallyInvalidViaInvalidReferenceGrant."""
    own = route(THEIRS, {"backendRefs": [backend("web")]})
    assert reasons(mesh(kubernetes(), own, *grants), own, "ResolvedRefs") == ["!RefNotPermitted"]
    scope = hosts(gateway_class(), web(namespace="theirs"), kubernetes(), own, *grants)["*"]
    refused, good = (rule.forward.destinations[0] for rule in scope.http)
    assert (refused.unroutable.status, good.HasField("unroutable")) == (500, False)


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ({"port": 80}, "Accepted"),
        ({"port": 81}, "!NoMatchingParent"),
        ({"sectionName": "http", "port": 80}, "Accepted"),
        ({"sectionName": "http", "port": 81}, "!NoMatchingParent"),
    ],
)
def test_http_route_invalid_parent_ref(parent: Spec, expected: str) -> None:
    """HTTPRouteInvalidParentRefNotMatchingListenerPort, ...SectionNameNotMatchingPort."""
    own = route(parents=[parent])
    assert reasons(mesh(kubernetes(), own), own) == [expected]


def secured(namespace: str) -> Spec:
    return listener("https", 443, "HTTPS", tls={"certificateRefs": [{"name": "c", "namespace": namespace}]})


@pytest.mark.parametrize(
    ("to", "kind", "expected"),
    [
        (SECRET, "Gateway", True),
        ({**SECRET, "name": "c"}, "Gateway", True),
        ({**SECRET, "name": "d"}, "Gateway", False),
        ({"group": "", "kind": "Service", "name": "c"}, "Gateway", False),
        (SECRET, "HTTPRoute", False),
    ],
)
def test_gateway_secret_reference_grant(to: Spec, kind: str, expected: bool) -> None:
    """GatewaySecretReferenceGrantSpecific and GatewaySecretInvalidReferenceGrant."""
    model = mesh(kubernetes(secured("theirs")), grant(kind, to))
    assert told(model)["https"].holds("ResolvedRefs") == expected
    assert bool(listeners(model).listeners) == expected


def test_gateway_modify_listeners() -> None:
    """GatewayModifyListeners: one is added, another one is taken away."""
    model = mesh(kubernetes(listener("one"), listener("two", 81)), route())
    assert {name: one.attached for name, one in told(model).items()} == {"one": 1, "two": 1}
    model, _ = apply(model, changes(kubernetes(listener("two", 81), listener("three", 82))))
    assert {name: one.attached for name, one in told(model).items()} == {"two": 1, "three": 1}
    assert [one.port for one in listeners(model).listeners] == [81, 82]


def test_gateway_name_maximum_length() -> None:
    """GatewayNameMaximumLength: 63 characters."""
    name = "d" * 63
    own = route(parents=[{"name": name}])
    model = mesh(kubernetes(name=name), own)
    assert reasons(model, own) == ["Accepted"]
    assert told(model, Key("KubernetesGateway", "default", name))["http"].holds("Programmed")


def test_gateway_optional_address_value() -> None:
    """GatewayOptionalAddressValue: any address of the type will do."""
    status = gateway_statuses(mesh(kubernetes(addresses=[{"type": "IPAddress"}])))[DOOR]
    assert [(one.type, one.status) for one in status.conditions] == [("Accepted", True), ("Programmed", True)]


def test_gateway_with_attached_routes_with_port_8080() -> None:
    """GatewayWithAttachedRoutesWithPort8080: by the listener's name, and by another one that is not there."""
    items = [
        route(name="a", parents=[{"sectionName": "http"}]),
        route(name="b", parents=[{"sectionName": "x"}]),
    ]
    assert told(mesh(kubernetes(listener(port=8080)), *items))["http"].attached == 1


def test_gateway_frontend_client_certificate_validation() -> None:
    """GatewayFrontendClientCertificateValidation: by default, and otherwise at one port."""

    def validated_by(name: str) -> Spec:
        return {"validation": {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": name}]}}

    frontend = {"default": validated_by("ca"), "perPort": [{"port": 8443, "tls": validated_by("other")}]}
    written = [secured("default"), {**secured("default"), "name": "https-2", "port": 8443}]
    model = mesh(kubernetes(*written, tls={"frontend": frontend}))
    servers = {one.port: one.servers[0].tls for one in listeners(model).listeners}
    assert {port: one.ca_source for port, one in servers.items()} == {
        443: "default/ca",
        8443: "default/other",
    }


def listener_set(*written: Spec, namespace: str = "default") -> Object:
    spec = {"parentRef": {"name": "door", "namespace": "default"}, "listeners": list(written)}
    return make("ListenerSet", "more", namespace, spec=spec)


def of_set(**more: Any) -> Object:
    parent = {"kind": "ListenerSet", "name": "more", **more.pop("parent", {})}
    return route(parents=[parent], **more)


@pytest.mark.parametrize(("labels", "expected"), [({"a": "b"}, True), ({"a": "c"}, False), ({}, False)])
def test_listener_set_allowed_namespace_selector(labels: dict[str, str], expected: bool) -> None:
    """ListenerSetAllowedNamespaceSelector."""
    selector = {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}
    door = kubernetes(allowedListeners={"namespaces": selector})
    model = mesh(
        make("Namespace", "theirs", labels=labels), door, listener_set(listener(port=81), namespace="theirs")
    )
    accepted, *_ = gateway_statuses(model)[Key("ListenerSet", "theirs", "more")].conditions
    assert (accepted.type, accepted.status) == ("Accepted", expected)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ({}, "!NotAllowedByListeners"),
        ({"namespaces": {"from": "All"}}, "Accepted"),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}, "!NotAllowedByListeners"),
    ],
)
def test_listener_set_allowed_routes(allowed: Spec, expected: str) -> None:
    """ListenerSetAllowedRoutesNamespaces, ListenerSetAllowedRoutesSupportedKinds: `Same` is the set's own."""
    own = of_set(namespace="theirs", parent={"namespace": "default"})
    added = listener_set(listener("more", 81, allowedRoutes=allowed))
    model = mesh(kubernetes(**FROM_ALL), added, own)
    assert reasons(model, own) == [expected]
    kinds = [one["kind"] for one in allowed.get("kinds", ())] or ["HTTPRoute", "GRPCRoute"]
    assert told(model, MORE)["more"].kinds == (*kinds,)


def test_listener_set_parents_are_independent() -> None:
    """ListenerSetDualParentRefIndependence, ListenerSetRouteStatusScopedToParentRef."""
    both = [{}, {"kind": "ListenerSet", "name": "more", "sectionName": "none"}]
    own = route(parents=both)
    model = mesh(kubernetes(**FROM_ALL), listener_set(listener("more", 81)), own)
    assert reasons(model, own) == ["Accepted", "!NoMatchingParent"]
    assert (told(model)["http"].attached, told(model, MORE)["more"].attached) == (1, 0)


def test_listener_set_gateway_parent_section_name_not_found() -> None:
    """ListenerSetGatewayParentSectionNameNotFound: a Gateway's parts are its own listeners alone."""
    own = route(parents=[{"sectionName": "more"}])
    assert reasons(mesh(kubernetes(**FROM_ALL), listener_set(listener("more", 81)), own), own) == [
        "!NoMatchingParent"
    ]


@pytest.mark.parametrize(("kind", "expected"), [("ListenerSet", True), ("Gateway", False)])
def test_listener_set_reference_grant(kind: str, expected: bool) -> None:
    """ListenerSetReferenceGrant: what its Gateway may refer to, it may not."""
    model = mesh(kubernetes(**FROM_ALL), listener_set(secured("theirs")), grant(kind, SECRET))
    assert told(model, MORE)["https"].holds("ResolvedRefs") == expected
