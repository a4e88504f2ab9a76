"""HTTPRoute, GRPCRoute, TCPRoute and TLSRoute of Services -> rules."""

import pytest
from google.protobuf import text_format

from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.model import parents
from agent.model.schema.objects import Key, Object, key_of
from protocols import routes_pb2 as pb
from tests.agent.model.objects import make, model_of, service_entry
from tests.agent.model.translation.routes.tables import (
    Spec,
    backend,
    connection_shares,
    http_route,
    port,
    rule,
    scope,
    shares,
    to,
    versions,
    virtual_service,
    web,
)

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
PLAIN = {"backendRefs": [backend("web")]}


def told(spec: Spec) -> pb.HttpRule:
    [found] = scope(web(), http_route({**PLAIN, **spec})).http
    return found


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, 'path {segment_prefix: "/"}'),
        ({"path": {"value": "/a"}}, 'path {segment_prefix: "/a"}'),
        ({"path": {"type": "Exact", "value": "/a"}}, 'path {exact: "/a"}'),
        ({"path": {"type": "RegularExpression", "value": "/a.*"}}, 'path {regex: "/a.*"}'),
        ({"method": "GET"}, 'path {segment_prefix: "/"} method {exact: "GET"}'),
        (
            {"headers": [{"name": "A", "value": "1"}, {"name": "a", "value": "2"}]},
            'path {segment_prefix: "/"} headers {name: "a" value {exact: "1"}}',
        ),
        (
            {"headers": [{"name": "a", "value": "1+", "type": "RegularExpression"}]},
            'path {segment_prefix: "/"} headers {name: "a" value {regex: "1+"}}',
        ),
        (
            {"queryParams": [{"name": "A", "value": "1"}]},
            'path {segment_prefix: "/"} query {name: "A" value {exact: "1"}}',
        ),
    ],
)
def test_http_matches(match: Spec, expected: str) -> None:
    [found] = told({"matches": [match]}).matches
    assert found == text_format.Parse(expected, pb.HttpMatch())


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, ""),
        ({"method": {"service": "a.B", "method": "C"}}, 'path {exact: "/a.B/C"}'),
        ({"method": {"service": "a.B"}}, 'path {prefix: "/a.B/"}'),
        ({"method": {"method": "C"}}, 'path {regex: "/[^/]+/(?:C)"}'),
        (
            {"method": {"type": "RegularExpression", "service": "a|b", "method": "c|d"}},
            'path {regex: "/(?:a|b)/(?:c|d)"}',
        ),
        ({"headers": [{"name": "a", "value": "1"}]}, 'headers {name: "a" value {exact: "1"}}'),
    ],
)
def test_grpc_matches(match: Spec, expected: str) -> None:
    found = scope(web(), http_route({**PLAIN, "matches": [match]}, kind="GRPCRoute"))
    assert found.unmatched == pb.UNIMPLEMENTED
    assert found.http[0].matches[0] == text_format.Parse(expected, pb.HttpMatch())


ORDER = [  # the first is looked at first
    {"path": {"type": "Exact", "value": "/a/b/c"}},
    {"path": {"type": "Exact", "value": "/a"}},
    {"path": {"value": "/a/b"}, "method": "GET"},
    {"path": {"value": "/a/b"}, "headers": [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}]},
    {"path": {"value": "/a/b"}, "headers": [{"name": "a", "value": "1"}]},
    {"path": {"value": "/a/b"}, "queryParams": [{"name": "a", "value": "1"}]},
    {"path": {"value": "/a/b"}},
    {"path": {"value": "/a"}},
    {"path": {"value": "/"}},
    {"path": {"type": "RegularExpression", "value": "/a.*"}},
]


def test_precedence_within_a_route() -> None:
    rules = [{**PLAIN, "name": f"r{place}", "matches": [match]} for place, match in enumerate(ORDER)]
    found = scope(web(), http_route(*reversed(rules)))
    assert [one.name for one in found.http] == [f"r{place}" for place in range(len(ORDER))]


def test_each_match_of_a_rule_has_a_place_of_its_own() -> None:
    wide_and_narrow = {**PLAIN, "name": "both", "matches": [{"path": {"value": "/"}}, ORDER[0]]}
    between = {**PLAIN, "name": "between", "matches": [{"path": {"value": "/a"}}]}
    found = scope(web(), http_route(wide_and_narrow, between))
    assert [one.name for one in found.http] == ["both", "between", "both"]


def test_between_routes_the_older_counts_then_the_name_then_the_place() -> None:
    def one(name: str, created: str) -> Object:
        return http_route(
            {**PLAIN, "name": f"{name}1"}, {**PLAIN, "name": f"{name}2"}, name=name, created=created
        )

    found = scope(web(), one("c", NEW), one("b", NEW), one("a", NEW), one("z", OLD))
    assert [rule.name for rule in found.http] == ["z1", "z2", "a1", "a2", "b1", "b2", "c1", "c2"]


def modifier(type_: str, **changes: object) -> Spec:
    return {"type": type_, type_[0].lower() + type_[1:]: changes}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (
            [modifier("RequestHeaderModifier", set=[{"name": "A", "value": "5%"}], remove=["B"])],
            'request {remove: "b" changes {name: "a" value: "5%%"}}',
        ),
        (
            [modifier("ResponseHeaderModifier", add=[{"name": "a", "value": "1"}])],
            'response {changes {name: "a" value: "1" append: true}}',
        ),
        (
            [modifier("RequestHeaderModifier", set=[{"name": "Host", "value": "b"}])],
            'forward {rewrite {authority: "b"}}',
        ),
        ([{"type": "URLRewrite", "urlRewrite": {"hostname": "b"}}], 'forward {rewrite {authority: "b"}}'),
        (
            [
                {
                    "type": "URLRewrite",
                    "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/b"}},
                }
            ],
            'forward {rewrite {full: "/b"}}',
        ),
        (
            [modifier("RequestMirror", backendRef={"name": "web", "port": 80})],
            "mirrors {destination: 0 parts: 1000000}",
        ),
        (
            [modifier("RequestMirror", backendRef={"name": "web", "port": 80}, percent=5)],
            "mirrors {destination: 0 parts: 50000}",
        ),
        (
            [
                modifier(
                    "RequestMirror",
                    backendRef={"name": "web", "port": 80},
                    fraction={"numerator": 1, "denominator": 3},
                )
            ],
            "mirrors {destination: 0 parts: 333333}",
        ),
        ([modifier("RequestMirror", backendRef={"name": "gone", "port": 80})], ""),
        (
            [
                {
                    "type": "CORS",
                    "cors": {"allowOrigins": ["https://a", "https://*.b.c"], "allowCredentials": True},
                }
            ],
            r'cors {allow_origins {exact: "https://a"} allow_origins {regex: "https://.*\\.b\\.c"} '
            "max_age: 5 allow_credentials: true answer_unmatched_preflights: true}",
        ),
        (
            [{"type": "CORS", "cors": {"allowOrigins": ["*"]}}],
            r'cors {allow_origins {regex: "[a-zA-Z][a-zA-Z0-9+.-]*://[^/\\s?#]+"} max_age: 5 '
            "answer_unmatched_preflights: true}",
        ),
    ],
)
def test_filters(filters: list[Spec], expected: str) -> None:
    whole = told({})
    whole.MergeFrom(text_format.Parse(expected, pb.HttpRule()))
    assert text_format.MessageToString(told({"filters": filters})) == text_format.MessageToString(whole)


PREFIX = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({}, "request_port: true status: 302"),
        ({"scheme": "https"}, 'scheme: "https" port: 443 status: 302'),
        ({"scheme": "https", "port": 8443}, 'scheme: "https" port: 8443 status: 302'),
        ({"port": 8080, "statusCode": 301}, "port: 8080 status: 301"),
        ({"hostname": "b"}, 'authority: "b" request_port: true status: 302'),
        (PREFIX, 'segment_prefix: "/b" request_port: true status: 302'),
    ],
)
def test_redirects(redirect: Spec, expected: str) -> None:
    filters = [{"type": "RequestRedirect", "requestRedirect": redirect}]
    found = scope(web(), http_route({"matches": [{"path": {"value": "/a"}}], "filters": filters})).http[0]
    assert found.redirect == text_format.Parse(expected, pb.Redirect())


def test_a_prefix_that_is_rewritten() -> None:
    filters = [{"type": "URLRewrite", "urlRewrite": PREFIX}]
    found = told({"matches": [{"path": {"value": "/a"}}], "filters": filters})
    assert found.forward.rewrite.segment_prefix == "/b"


@pytest.mark.parametrize(
    ("rule_", "timeout", "per_try", "attempts", "statuses"),
    [
        ({}, 0, 0, 2, []),
        ({"timeouts": {"request": "10s"}}, 10000, 0, 2, []),
        ({"timeouts": {"request": "0s"}}, 0, 0, 2, []),
        ({"timeouts": {"request": "10s", "backendRequest": "2s"}}, 10000, 2000, 2, []),
        ({"timeouts": {"backendRequest": "2s"}}, 2000, 2000, 2, []),
        ({"retry": {}, "timeouts": {"backendRequest": "2s"}}, 0, 2000, 2, []),
        ({"retry": {"attempts": 5, "codes": [503]}}, 0, 0, 5, [503]),
        ({"retry": {"attempts": 0}, "timeouts": {"backendRequest": "2s"}}, 2000, 0, 0, []),
    ],
)
def test_limits(rule_: Spec, timeout: int, per_try: int, attempts: int, statuses: list[int]) -> None:
    found = told(rule_).forward
    assert (found.timeout_ms, found.retry.per_try_timeout_ms) == (timeout, per_try)
    assert (found.retry.attempts, [*found.retry.statuses]) == (attempts, statuses)
    always = "retry" in rule_ and attempts > 0
    assert (pb.RESET in found.retry.conditions) == always, "disconnects and timeouts"


EXTENSION = {"type": "ExtensionRef", "extensionRef": {"group": "a", "kind": "B", "name": "c"}}


@pytest.mark.parametrize(
    ("refs", "expected"),
    [
        ([], [("500", 1)]),
        ([backend("web", 0)], [("500", 1)]),
        ([backend("web")], [("web.default:80", 1)]),
        ([backend("web", 90), backend("api", 10)], [("web.default:80", 90), ("api.default:80", 10)]),
        ([backend("web", 1), backend("api", 0)], [("web.default:80", 1), ("api.default:80", 0)]),
        ([backend("web", 1), backend("gone", 3)], [("web.default:80", 1), ("500", 3)]),
        ([backend("web", port=81)], [("500", 1)]),
        ([backend("away", namespace="other")], [("500", 1)]),
        ([backend("granted", namespace="other")], [("granted.other:80", 1)]),
        ([backend("x", kind="Thing", group="a.example")], [("500", 1)]),
        ([backend("api.example", kind="Hostname", group="networking.istio.io")], [("api.example:80", 1)]),
        ([backend("api", kind="ServiceEntry", group="networking.istio.io")], [("api.example:80", 1)]),
        ([backend("web", filters=[EXTENSION])], [("500", 1)]),
    ],
)
def test_backends(refs: list[Spec], expected: list[tuple[str, int]]) -> None:
    grant = make(
        "ReferenceGrant",
        "g",
        "other",
        spec={
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
            "to": [{"group": "", "kind": "Service", "name": "granted"}],
        },
    )
    others = (web("away", "other"), web("granted", "other"), web("api"), service_entry(), grant)
    assert shares(scope(web(), *others, http_route({"backendRefs": refs}))) == expected


def test_headers_of_a_backend() -> None:
    filters = [modifier("RequestHeaderModifier", add=[{"name": "a", "value": "1"}])]
    [found] = told({"backendRefs": [backend("web", filters=filters)]}).forward.destinations
    assert [one.name for one in found.request.changes] == ["a"]


def test_a_filter_that_is_not_known_answers_with_500() -> None:
    assert told({"filters": [EXTENSION]}).respond.status == 500


def origins(*items: Object, namespace: str = "") -> list[str]:
    if port(web(), *items) is None:
        return []
    return [one.origin for one in scope(web(), *items, namespace=namespace).http]


def test_a_route_comes_before_virtual_services() -> None:
    other = virtual_service({"route": [to("web")]})
    assert origins(http_route(PLAIN), other) == ["HTTPRoute default/web"]
    assert "takes precedence" in "".join(model_of(web(), http_route(PLAIN), other).problems.values())


def test_a_consumers_route_is_for_its_namespace_and_comes_before_the_producers() -> None:
    refs = {"backendRefs": [backend("web", namespace="default")]}
    items = (http_route(PLAIN), http_route(refs, namespace="consumer"))
    assert origins(*items, namespace="consumer") == ["HTTPRoute consumer/web"]
    assert origins(*items) == ["HTTPRoute default/web"]
    alone = (http_route(refs, namespace="consumer"),)
    assert origins(*alone, namespace="consumer") == ["HTTPRoute consumer/web"]
    assert origins(*alone) == [""]


TWO = [{"port": 80, "name": "http"}, {"port": 81, "name": "http-2"}, {"port": 9000, "name": "tcp"}]


@pytest.mark.parametrize(
    ("parent", "ports"),
    [
        ({}, [80, 81]),
        ({"port": 81}, [81]),
        ({"sectionName": "http"}, [80]),
        ({"sectionName": "http", "port": 81}, []),
        ({"port": 9000}, []),
        ({"name": "gone"}, []),
        ({"namespace": "other"}, []),
        ({"kind": "Gateway", "group": "gateway.networking.k8s.io"}, []),
    ],
)
def test_parents(parent: Spec, ports: list[int]) -> None:
    items = (web(ports=TWO), http_route(PLAIN, parents=[parent]))
    assert [number for number in (80, 81, 9000) if port(*items, number=number)] == ports


def test_a_service_entry_as_a_parent() -> None:
    parent = {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "api"}
    refs = [backend("api.example", kind="Hostname", group="networking.istio.io")]
    found = scope(service_entry(), http_route({"backendRefs": refs}, parents=[parent]), host="api.example")
    assert shares(found) == [("api.example:80", 1)]


def test_of_http_and_grpc_routes_the_kind_of_the_oldest_counts() -> None:
    grpc = http_route(PLAIN, kind="GRPCRoute", name="g", created=OLD)
    http = http_route(PLAIN, created=NEW)
    assert origins(grpc, http) == ["GRPCRoute default/g"]
    assert "Conflicted" in model_of(web(), grpc, http).problems[key_of(http)]


TCP = [{"port": 9000, "name": "tcp"}]


def test_of_tcp_routes_the_oldest_counts() -> None:
    refs = {"backendRefs": [{"name": "web", "port": 9000, "weight": 7}]}
    old = http_route(refs, kind="TCPRoute", name="old", created=OLD)
    new = http_route(refs, kind="TCPRoute", name="a", created=NEW)
    found = scope(web(ports=TCP), new, old, number=9000)
    assert [one.origin for one in found.tcp] == ["TCPRoute default/old"]
    assert connection_shares(found) == [("web.default:9000", 7)]
    assert "Conflicted" in model_of(web(ports=TCP), new, old).problems[key_of(new)]


def test_tls_routes_by_the_most_specific_name() -> None:
    refs = {"backendRefs": [{"name": "web", "port": 443}]}
    tls = [{"port": 443, "name": "tls"}]
    wide = http_route(refs, kind="TLSRoute", name="wide", hostnames=["*.example"])
    narrow = http_route(refs, kind="TLSRoute", name="narrow", hostnames=["a.example", "*.b.example"])
    found = scope(web(ports=tls), wide, narrow, number=443)
    names = [name for one in found.tls for name in one.matches[0].sni_hosts]
    assert names == ["a.example", "*.b.example", "*.example"]
    assert not found.tcp


def conditions(item: Object, *others: Object) -> dict[str, tuple[bool, str]]:
    """Those of its only parent."""
    [status] = parents(model_of(item, *others), key_of(item))
    return {one.type: (one.status, one.reason) for one in status.conditions}


@pytest.mark.parametrize(
    ("spec", "parent", "accepted", "resolved"),
    [
        (PLAIN, {}, (True, "Accepted"), (True, "ResolvedRefs")),
        (PLAIN, {"name": "gone"}, (False, "NoMatchingParent"), (True, "ResolvedRefs")),
        (PLAIN, {"port": 7}, (False, "NoMatchingParent"), (True, "ResolvedRefs")),
        (PLAIN, {"port": 9000}, (False, "UnsupportedProtocol"), (True, "ResolvedRefs")),
        ({"backendRefs": [backend("gone")]}, {}, (True, "Accepted"), (False, "BackendNotFound")),
        (
            {"backendRefs": [backend("x", kind="Y", group="z")]},
            {},
            (True, "Accepted"),
            (False, "InvalidKind"),
        ),
        (
            {"backendRefs": [backend("web", namespace="other")]},
            {},
            (True, "Accepted"),
            (False, "RefNotPermitted"),
        ),
        (
            {**PLAIN, "filters": [modifier("RequestMirror", backendRef={"name": "gone", "port": 80})]},
            {},
            (True, "Accepted"),
            (False, "BackendNotFound"),
        ),
    ],
)
def test_conditions(spec: Spec, parent: Spec, accepted: object, resolved: object) -> None:
    found = conditions(http_route(spec, parents=[parent]), web(ports=TWO))
    assert (found["Accepted"], found["ResolvedRefs"]) == (accepted, resolved)
    assert "PartiallyInvalid" not in found


def test_what_is_only_partly_supported() -> None:
    found = conditions(http_route({**PLAIN, "filters": [EXTENSION]}), web())
    assert found["PartiallyInvalid"] == (True, "UnsupportedValue")


def test_gateways_have_controllers_of_their_own() -> None:
    item = http_route(PLAIN, parents=[{"kind": "Gateway", "group": "gateway.networking.k8s.io"}])
    model = model_of(item, web())
    assert parents(model, key_of(item)) == []
    assert not model.problems


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"])
def test_a_refused_one_that_never_was_good_sends_nothing_on(kind: str) -> None:
    refs = [{"group": "", "kind": "Service", "name": "web", "port": 80}]
    raw = {"metadata": {"name": "a"}, "spec": {"parentRefs": refs, "rules": [{"odd": 1}]}}
    item = strictest(KINDS[kind], Key(kind, "default", "a"), raw, "rules[0]: unknown field odd")
    assert item
    name = {"TCPRoute": "tcp", "TLSRoute": "tls"}.get(kind, "http")
    found = scope(web(ports=[{"port": 80, "name": name}]), item)
    if kind in ("HTTPRoute", "GRPCRoute"):
        assert shares(found) == [("500", 1)]
    else:
        only = found.tcp[0] if kind == "TCPRoute" else found.tls[0]
        assert only.destinations[0].unroutable.status == 500
    accepted = conditions(item, web(ports=[{"port": 80, "name": name}]))["Accepted"]
    assert accepted == (False, "UnsupportedValue")


def test_destination_rules_hold_for_backends() -> None:
    policy = {"connectionPool": {"tcp": {"maxConnections": 7}}}
    items = (web(), http_route(PLAIN), rule(subsets=versions("v1"), trafficPolicy=policy))
    [found] = scope(*items).destinations
    assert found.policy.connection_pool.max_connections == 7
