"""Istio's Gateways and VirtualServices -> what a gateway's pod listens on."""

from typing import Any

import pytest

from agent.model.model import apply
from agent.model.resources import LISTENERS
from agent.model.schema.objects import Key, Object, key_of
from protocols import routes_pb2 as pb
from tests.agent.model.objects import changes, model_of, resources, service, service_entry
from tests.agent.model.translation.gateways.tables import (
    INGRESS,
    answers,
    gateway,
    hosts,
    http_server,
    ingress,
    listeners,
    told,
)
from tests.agent.model.translation.routes.tables import Spec, rule, to, versions, virtual_service, web

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def bound(*http: Spec, **more: Any) -> Object:
    """A VirtualService for all hosts, bound to the Gateway `door`, which leads to `web`."""
    rules = http or ({"route": [to("web")]},)
    return virtual_service(*rules, **{"hosts": ["*"], "gateways": ["door"], **more})


def test_a_bound_virtual_service_answers() -> None:
    found = hosts(gateway(http_server()), bound())
    assert {host: answers(scope) for host, scope in found.items()} == {"*": ["web"]}
    assert hosts(gateway(http_server())) == {}, "without one there is nothing"


@pytest.mark.parametrize("written", ["default/door", "door", "door.default.svc.cluster.local"])
def test_gateways_are_named(written: str) -> None:
    assert [*hosts(gateway(http_server()), bound(gateways=[written]))] == ["*"]


@pytest.mark.parametrize(
    ("server", "service", "expected"),
    [
        (["*"], ["a.com"], ["a.com"]),
        (["a.com"], ["*"], ["a.com"]),
        (["*.a.com"], ["b.a.com", "c.com"], ["b.a.com"]),
        (["*.b.a.com"], ["*.a.com"], ["*.b.a.com"]),
        (["a.com"], ["b.com"], []),
        (["default/a.com"], ["a.com"], ["a.com"]),
        (["./a.com"], ["a.com"], ["a.com"]),
        (["*/a.com"], ["a.com"], ["a.com"]),
        (["other/a.com"], ["a.com"], []),
    ],
)
def test_hosts_are_those_of_both(server: list[str], service: list[str], expected: list[str]) -> None:
    assert [*hosts(gateway(http_server(*server)), bound(hosts=service))] == expected


def test_of_one_host_the_oldest_virtual_service_comes_first() -> None:
    items = [
        gateway(http_server("*"), name="one"),
        gateway(http_server("*"), name="two"),
        bound({"route": [to("web")]}, name="new", gateways=["one"], created=NEW),
        bound({"route": [to("api")]}, name="old", gateways=["two"], created=OLD),
    ]
    assert answers(hosts(*items)["*"]) == ["api", "web"]
    assert answers(hosts(*reversed(items))["*"]) == ["api", "web"]


def test_a_match_may_be_for_one_gateway_or_port() -> None:
    first = {"match": [{"gateways": ["mesh"]}], "route": [to("api")]}
    second = {"match": [{"port": 81}], "route": [to("api")]}
    third = {"match": [{"gateways": ["default/door"], "port": 80}], "route": [to("web")]}
    both = ["mesh", "door"]
    items = [gateway(http_server(), http_server(port=81)), bound(first, second, third, gateways=both,
                                                                 hosts=["web"])]  # fmt: skip
    name = "web.default.svc.cluster.local"
    assert answers(hosts(*items)[name]) == ["web"]
    assert answers(hosts(*items, port=81)[name]) == ["api"]


def test_who_is_bound_and_not_exported_is_left_out() -> None:
    theirs = bound(namespace="other", gateways=["default/door"], exportTo=["."])
    assert hosts(gateway(http_server()), theirs) == {}


def test_requests_may_be_redirected() -> None:
    secure = http_server("a.com", tls={"httpsRedirect": True})
    found = hosts(gateway(secure), bound(hosts=["a.com"]))["a.com"]
    [only] = found.http
    assert (only.redirect.scheme, only.redirect.status) == ("https", 301)
    assert "a.com" in hosts(gateway(secure)), "of a host without rules, too"


def test_connections() -> None:
    tcp = {"port": {"number": 5432, "protocol": "TCP"}, "hosts": ["*"]}
    tls = {"port": {"number": 443, "protocol": "TLS"}, "hosts": ["a.com"], "tls": {"mode": "PASSTHROUGH"}}
    rules: dict[str, Any] = {
        "tcp": [{"route": [to("web", port=80)]}],
        "tls": [{"match": [{"sniHosts": ["a.com"]}], "route": [to("api", port=80)]}],
    }
    found = told(gateway(tcp, tls), virtual_service(hosts=["a.com"], gateways=["door"], **rules))
    [plain] = found[5432].servers
    assert not plain.sni_hosts and len(plain.connections.tcp) == 1 and not plain.connections.tls
    [passed] = found[443].servers
    assert passed.sni_hosts == ["a.com"] and passed.connections.tls[0].matches[0].sni_hosts == ["a.com"]


def test_the_pods_own_port_is_the_services_target() -> None:
    mapped = service("in", [{"port": 80, "targetPort": 8080}], metadata={"namespace": "edge"},
                     selector={"istio": "ingressgateway"})  # fmt: skip
    found = told(mapped, gateway(http_server(), http_server(port=81)))
    assert {port: one.bind for port, one in found.items()} == {80: 8080, 81: 81}


def test_only_pods_that_are_gateways_and_selected_listen() -> None:
    items = [gateway(http_server()), bound(), web()]
    plain = {"istio": "ingressgateway"}
    assert not resources(model_of(ingress(labels=plain), *items), LISTENERS)
    other = model_of(ingress(labels={**INGRESS, "istio": "else"}), *items)
    assert not listeners(other).listeners


def test_policies_are_those_that_the_gateway_sees() -> None:
    def destinations(rules: Object) -> Any:
        route = bound({"route": [to("web", "v1")]})
        [only] = hosts(gateway(http_server()), route, rules)["*"].http
        return only.forward.destinations[0]

    assert destinations(rule(subsets=versions("v1"))).WhichOneof("to") == "destination"
    assert destinations(rule(subsets=versions("v1"), exportTo=["."])).unroutable.status == 503


def test_it_is_translated_again_when_something_of_it_changes() -> None:
    """As if all of it were translated: a service comes, a rule's subset, a Gateway goes."""
    items = [ingress(), gateway(http_server()), bound({"route": [to("web", "v1")]}), web(),
             rule(subsets=versions("v1")), web("in", "edge", selector=dict(INGRESS))]  # fmt: skip
    whole = model_of(*items)
    for item in items:
        model, _ = apply(model_of(*(one for one in items if one is not item)), changes(item))
        assert model.resources == whole.resources, key_of(item)
        model, _ = apply(whole, [(key_of(item), None)])
        assert model.resources == model_of(*(one for one in items if one is not item)).resources, key_of(item)


def test_problems() -> None:
    lonely = model_of(gateway(http_server(bind="10.0.0.1")), bound(gateways=["nowhere"]), web())
    assert lonely.problems[Key("Gateway", "default", "door")] == (
        "selector: no gateway's pod has these labels; nothing listens for it yet; "
        "servers[0]: bind is not enforced: it listens on all addresses of the pod"
    )
    told = lonely.problems[Key("VirtualService", "default", "web")]
    assert told == "gateways: there is no Gateway default/nowhere; nothing listens for it yet"
    well = model_of(ingress(), gateway(http_server()), bound(), web())
    assert not well.problems


@pytest.mark.parametrize("resolution", ["DYNAMIC_DNS", "NONE"])
def test_a_name_under_a_wildcard_is_left_for(resolution: str) -> None:
    """Where DNS is asked for it: an address that the client has called is the gateway's own."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    out = bound({"route": [to("api.example")]}, hosts=["api.example"])
    base = model_of(web(), ingress(), gateway(http_server()), out)
    model = model_of(service_entry(hosts=["*.example"], ports=ports, resolution=resolution), base=base)
    [server] = listeners(model).listeners[0].servers
    [share] = server.http.hosts[0].scope.http[0].forward.destinations
    dynamic = resolution == "DYNAMIC_DNS"
    assert share.HasField("destination") == dynamic
    assert (key_of(out) in model.problems) != dynamic
    policies = [one.policy.load_balancer.algorithm for one in server.http.hosts[0].scope.destinations]
    assert policies == ([pb.DYNAMIC_DNS] if dynamic else [])
