"""VirtualService -> rules: field by field, and whom of several they are for."""

import pytest
from google.protobuf import text_format

from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.schema.istio.policy import Policy
from agent.model.schema.objects import Key, Object, key_of
from protocols import routes_pb2 as pb
from tests.agent.model.objects import make, model_of, service_entry
from tests.agent.model.translation.routes.tables import (
    HTTP,
    WEB,
    Spec,
    connection_shares,
    port,
    routes,
    rule,
    scope,
    shares,
    to,
    versions,
    virtual_service,
    web,
)

PLAIN = {"route": [to("web")]}
OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
DEFAULT_RETRY = (
    "attempts: 2 conditions: [CONNECT_FAILURE, REFUSED_STREAM, GRPC_UNAVAILABLE, GRPC_CANCELLED] "
    "avoid_previous_hosts: true backoff_base_ms: 25 backoff_max_ms: 250"
)


def told(spec: Spec) -> pb.HttpRule:
    """The rule that a VirtualService's rule becomes."""
    [found] = scope(web(), virtual_service(spec)).http
    return found


def as_text(text: str, message: pb.HttpMatch | pb.HttpRule | pb.Scope) -> str:
    """The canonical form of a message that is written as text."""
    return text_format.MessageToString(text_format.Parse(text, type(message)()))


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, ""),
        ({"name": "m"}, 'name: "m"'),
        ({"uri": {"exact": "/a"}}, 'path {exact: "/a"}'),
        ({"uri": {"prefix": "/a"}}, 'path {prefix: "/a"}'),
        ({"uri": {"prefix": ""}}, ""),
        ({"uri": {}}, ""),
        ({"uri": {"regex": "/a.*"}}, 'path {regex: "/a.*"}'),
        ({"uri": {"exact": "/A"}, "ignoreUriCase": True}, 'path {exact: "/A" ignore_case: true}'),
        ({"uri": {"prefix": "/A"}, "ignoreUriCase": True}, 'path {prefix: "/A" ignore_case: true}'),
        ({"uri": {"regex": "/A"}, "ignoreUriCase": True}, 'path {regex: "/A"}'),
        ({"method": {"exact": "GET"}}, 'method {exact: "GET"}'),
        ({"method": {}}, ""),
        ({"scheme": {"exact": "https"}}, 'scheme {exact: "https"}'),
        ({"authority": {"prefix": "a."}}, 'authority {prefix: "a."}'),
        ({"headers": {"End-User": {"exact": "j"}}}, 'headers {name: "end-user" value {exact: "j"}}'),
        ({"headers": {"a": {}}}, 'headers {name: "a" value {present: true}}'),
        ({"headers": {"a": {"exact": ""}}}, 'headers {name: "a" value {exact: ""}}'),
        ({"headers": {"a": {"prefix": "b"}}}, 'headers {name: "a" value {prefix: "b"}}'),
        ({"headers": {"a": {"regex": "b+"}}}, 'headers {name: "a" value {regex: "b+"}}'),
        ({"headers": {":method": {"exact": "GET"}}}, 'headers {name: ":method" value {exact: "GET"}}'),
        ({"headers": {"uri": {"exact": "b"}, "scheme": {}, "method": {}, "authority": {}}}, ""),
        ({"withoutHeaders": {"a": {}}}, 'without_headers {name: "a" value {present: true}}'),
        ({"withoutHeaders": {"a": {"regex": "*"}}}, 'without_headers {name: "a" value {present: true}}'),
        ({"withoutHeaders": {"a": {"exact": "b"}}}, 'without_headers {name: "a" value {exact: "b"}}'),
        ({"queryParams": {"Q": {"exact": "b"}}}, 'query {name: "Q" value {exact: "b"}}'),
        ({"queryParams": {"q": {"exact": ""}}}, 'query {name: "q" value {exact: ""}}'),
        ({"queryParams": {"q": {}}}, 'query {name: "q" value {present: true}}'),
        ({"queryParams": {"q": {"prefix": "b"}}}, 'query {name: "q" value {prefix: "b"}}'),
        ({"sourceNamespace": "other"}, 'source_namespace: "other"'),
        ({"sourceLabels": {"app": "a"}}, 'source_labels {key: "app" value: "a"}'),
        ({"port": 80}, ""),
        ({"gateways": ["mesh", "gw"]}, ""),
    ],
)
def test_matches(match: Spec, expected: str) -> None:
    [found] = told({"match": [match], **PLAIN}).matches
    assert text_format.MessageToString(found) == as_text(expected, found)


def test_blocks_of_matches_that_are_for_others_are_left_out() -> None:
    blocks = [{"port": 81}, {"gateways": ["gw"]}, {"method": {"exact": "GET"}}]
    assert len(told({"match": blocks, **PLAIN}).matches) == 1


def test_a_rule_that_is_for_others_alone_is_left_out() -> None:
    """Were it kept without its matches it would match everything."""
    found = scope(
        web(), virtual_service({"match": [{"port": 81}], "name": "no", **PLAIN}, {"name": "yes", **PLAIN})
    )
    assert [one.name for one in found.http] == ["yes"]


def test_rules_for_another_port_leave_a_port_as_it_is() -> None:
    two = [*HTTP, {"port": 81, "name": "http-2"}]
    items = (web(ports=two), virtual_service({"match": [{"port": 81}], **PLAIN}))
    assert port(*items) is None
    assert port(*items, number=81)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"timeout": "1.5s"}, "forward {timeout_ms: 1500}"),
        ({"rewrite": {"uri": "/b#c"}}, 'forward {rewrite {prefix: "/b"}}'),
        ({"rewrite": {"authority": "b"}}, 'forward {rewrite {authority: "b"}}'),
        (
            {"rewrite": {"uriRegexRewrite": {"match": "(a)", "rewrite": r"\1"}}},
            r'forward {rewrite {regex {pattern: "(a)" substitution: "\\1"}}}',
        ),
        ({"headers": {"request": {"set": {"Host": "b"}}}}, 'forward {rewrite {authority: "b"}}'),
        (
            {"headers": {"request": {"add": {":authority": "b"}}}, "rewrite": {"uri": "/a"}},
            'forward {rewrite {prefix: "/a" authority: "b"}}',
        ),
        (
            {"headers": {"request": {"set": {"B": "1", "A": "2"}, "add": {"c": "3"}, "remove": ["D"]}}},
            'request {remove: "d" changes {name: "a" value: "2"} changes {name: "b" value: "1"} '
            'changes {name: "c" value: "3" append: true}}',
        ),
        ({"headers": {"response": {"remove": ["x"]}}}, 'response {remove: "x"}'),
        (
            {"fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}}}},
            "fault {delay_parts: 1000 delay_ms: 7000}",
        ),
        (
            {"fault": {"delay": {"fixedDelay": "7s", "percent": 50}}},
            "fault {delay_parts: 500000 delay_ms: 7000}",
        ),
        ({"fault": {"delay": {"fixedDelay": "7s"}}}, ""),
        ({"fault": {"abort": {"httpStatus": 500}}}, ""),
        (
            {"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 100}}}},
            "fault {abort_parts: 1000000 http_status: 500}",
        ),
        (
            {"fault": {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 1}}}},
            "fault {abort_parts: 10000 grpc_status: 14}",
        ),
        ({"fault": {"abort": {"percentage": {"value": 1}}}}, ""),
        ({"mirror": {"host": "web"}}, "mirrors {destination: 0 parts: 1000000}"),
        ({"mirror": {"host": "web"}, "mirrorPercent": 5}, "mirrors {destination: 0 parts: 50000}"),
        (
            {"mirror": {"host": "web"}, "mirrorPercentage": {"value": 0.5}, "mirrorPercent": 5},
            "mirrors {destination: 0 parts: 5000}",
        ),
        ({"mirror": {"host": "web"}, "mirrorPercentage": {"value": 0}}, ""),
        ({"mirror": {"host": "nowhere"}}, ""),
        (
            {"mirrors": [{"destination": {"host": "web"}, "percentage": {"value": 10}}]},
            "mirrors {destination: 0 parts: 100000}",
        ),
        ({"corsPolicy": {}}, "cors {}"),
        (
            {"corsPolicy": {"allowOrigins": [{"exact": "a"}, {"regex": "b.*"}], "maxAge": "24h"}},
            'cors {allow_origins {exact: "a"} allow_origins {regex: "b.*"} max_age: 86400}',
        ),
        (
            {"corsPolicy": {"allowOrigin": ["*", "a"], "unmatchedPreflights": "IGNORE"}},
            'cors {allow_origins {present: true} allow_origins {exact: "a"} '
            "answer_unmatched_preflights: true}",
        ),
        (
            {"corsPolicy": {"allowMethods": ["GET"], "allowHeaders": ["a"], "exposeHeaders": ["b"]}},
            'cors {allow_methods: "GET" allow_headers: "a" expose_headers: "b"}',
        ),
        ({"corsPolicy": {"allowCredentials": True}}, "cors {allow_credentials: true}"),
    ],
)
def test_what_is_done_to_requests(spec: Spec, expected: str) -> None:
    found = told({**PLAIN, **spec})
    bare = told(PLAIN)
    whole = text_format.Parse(expected, pb.HttpRule())
    bare.MergeFrom(whole)
    assert text_format.MessageToString(found) == text_format.MessageToString(bare)


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        (None, DEFAULT_RETRY),
        ({"attempts": 0}, ""),
        ({"attempts": 2}, DEFAULT_RETRY),
        (
            {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,503,retriable-headers", "backoff": "10ms"},
            "attempts: 3 per_try_timeout_ms: 2000 conditions: SERVER_ERROR statuses: 503 "
            "avoid_previous_hosts: true backoff_base_ms: 10 backoff_max_ms: 100",
        ),
        (
            {
                "attempts": 1,
                "retryOn": "reset",
                "retryIgnorePreviousHosts": False,
                "retryRemoteLocalities": True,
            },
            "attempts: 1 conditions: RESET other_priorities: true backoff_base_ms: 25 backoff_max_ms: 250",
        ),
    ],
)
def test_retries(retries: Spec | None, expected: str) -> None:
    found = told({**PLAIN, **({"retries": retries} if retries else {})}).forward
    assert found.HasField("retry") == bool(expected)
    assert text_format.Parse(expected, pb.Retry()) == found.retry


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({"uri": "/b"}, 'full: "/b" status: 301'),
        ({"uri": "/b", "redirectCode": 307}, 'full: "/b" status: 307'),
        ({"uri": "/b", "redirectCode": 304}, 'full: "/b" status: 301'),
        ({"prefixRewrite": "/b"}, 'prefix: "/b" status: 301'),
        ({"authority": "b", "scheme": "https"}, 'authority: "b" scheme: "https" status: 301'),
        ({"port": 8080}, "port: 8080 status: 301"),
        ({"derivePort": "FROM_REQUEST_PORT"}, "request_port: true status: 301"),
        ({"derivePort": "FROM_PROTOCOL_DEFAULT"}, "status: 301"),
    ],
)
def test_redirects(redirect: Spec, expected: str) -> None:
    assert told({"redirect": redirect}).redirect == text_format.Parse(expected, pb.Redirect())


@pytest.mark.parametrize(
    ("body", "expected"), [({}, b""), ({"string": "ä"}, "ä".encode()), ({"bytes": "AAE="}, b"\0\1")]
)
def test_direct_responses(body: Spec, expected: bytes) -> None:
    found = told({"directResponse": {"status": 418, "body": body}}).respond
    assert (found.status, found.body) == (418, expected)


def subsets(*names: str) -> Object:
    return rule(subsets=versions(*names))


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ([to("web")], [("web.default:80", 0)]),
        ([to("web", weight=0)], [("web.default:80", 0)]),
        ([to("web", "v1", 90), to("web", "v2", 10)], [("web.default/v1:80", 90), ("web.default/v2:80", 10)]),
        ([to("web", "v1", 1), to("web", "v2", 0)], [("web.default/v1:80", 1), ("web.default/v2:80", 0)]),
        ([to("web", "v1", 1), to("web", "v9", 1)], [("web.default/v1:80", 1), ("503 NC", 1)]),
        ([to(WEB)], [("web.default:80", 0)]),
        ([to("nowhere")], [("503 NC", 0)]),
        ([to("web.default")], [("503 NC", 0)]),
        ([to("web", port=80)], [("web.default:80", 0)]),
        ([to("web", port=81)], [("503 NC", 0)]),
        ([to("api")], [("api.default:8080", 0)]),
        ([to("api", port=80)], [("503 NC", 0)]),
        ([to("two")], [("two.default:80", 0)]),
        ([to("two", port=81)], [("two.default:81", 0)]),
        ([to("others")], [("503 NC", 0)]),
        ([to("api.example")], [("api.example:80", 0)]),
    ],
)
def test_destinations(route: list[Spec], expected: list[tuple[str, int]]) -> None:
    items = (
        *(web(), subsets("v1", "v2"), service_entry(), virtual_service({"route": route})),
        web("api", ports=[{"port": 8080, "name": "http"}]),
        web("two", ports=[*HTTP, {"port": 81, "name": "http-2"}]),
        web("others", ports=[{"port": 81, "name": "http"}, {"port": 82, "name": "http-2"}]),
    )
    assert shares(scope(*items)) == expected


def test_headers_of_one_destination() -> None:
    headers = {"request": {"set": {"host": "b", "a": "1"}}, "response": {"remove": ["c"]}}
    [found] = told({"route": [to("web", headers=headers)]}).forward.destinations
    assert found.authority == "b"
    assert [one.name for one in found.request.changes] == ["a"]
    assert found.response.remove == ["c"]


@pytest.mark.parametrize(
    ("hosts", "applies"),
    [
        (["web"], True),
        ([WEB], True),
        (["*.default.svc.cluster.local"], True),
        (["*.cluster.local"], True),
        (["*.other.svc.cluster.local"], False),
        (["web.default"], False),
        (["api", "web"], True),
        (["api"], False),
    ],
)
def test_hosts(hosts: list[str], applies: bool) -> None:
    assert (port(web(), virtual_service(PLAIN, hosts=hosts)) is not None) == applies


def test_a_short_name_is_of_the_rules_namespace() -> None:
    assert port(web(), virtual_service(PLAIN, namespace="other")) is None


def names(*items: Object, namespace: str = "") -> list[str]:
    """The rules that clients of a namespace have for the host `web`."""
    if port(web(), *items) is None:
        return []
    return [one.name for one in scope(web(), *items, namespace=namespace).http]


def named(name: str, **spec: object) -> Object:
    return virtual_service({"name": name, **PLAIN}, name=name, **spec)  # type: ignore[arg-type]


def test_the_most_specific_host_counts() -> None:
    wild, wilder = named("wild", hosts=["*.default.svc.cluster.local"]), named("wilder", hosts=["*.local"])
    assert names(wild, wilder, named("exact")) == ["exact"]
    assert names(wilder, wild) == ["wild"]


def test_several_for_one_host_are_concatenated_the_oldest_first() -> None:
    assert names(named("b", created=NEW), named("a", created=NEW), named("c", created=OLD)) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("export_to", "own", "named_one", "others"),
    [
        ([], True, True, True),
        (["*"], True, True, True),
        (["."], True, False, False),
        (["other"], False, True, False),
        ([".", "other"], True, True, False),
    ],
)
def test_export_to(export_to: list[str], own: bool, named_one: bool, others: bool) -> None:
    item = named("a", exportTo=export_to)
    for namespace, visible in (("default", own), ("other", named_one), ("third", others)):
        assert names(item, namespace=namespace) == (["a"] if visible else [""]), namespace


def test_what_is_for_the_clients_namespace_alone_comes_first() -> None:
    items = (named("all", created=OLD), named("own", hosts=[WEB], namespace="c", exportTo=["."], created=NEW))
    assert names(*items, namespace="c") == ["own", "all"]
    assert names(*items) == ["all"]


@pytest.mark.parametrize(
    ("gateways", "applies"), [([], True), (["mesh"], True), (["gw"], False), (["gw", "mesh"], True)]
)
def test_gateways(gateways: list[str], applies: bool) -> None:
    assert (port(web(), virtual_service(PLAIN, gateways=gateways)) is not None) == applies


def test_clients_without_rules_go_to_the_service() -> None:
    found = scope(web(), named("a", exportTo=["."]), namespace="other")
    assert shares(found) == [("web.default:80", 1)]
    assert found.http[0].forward.retry == text_format.Parse(DEFAULT_RETRY, pb.Retry())
    assert not found.http[0].matches


@pytest.mark.parametrize("name", ["tcp", "mysql", "", "odd"])
def test_http_rules_are_for_ports_that_are_declared_http(name: str) -> None:
    ports = [{"port": 80, "name": name} if name else {"port": 80}]
    model = model_of(web(ports=ports), virtual_service(PLAIN))
    assert not routes(model)
    assert "has no HTTP port" in "".join(model.problems.values())


TCP = [{"port": 9000, "name": "tcp"}]
TLS = [{"port": 443, "name": "https"}]


def test_tcp_rules_and_their_default() -> None:
    rules = [{"match": [{"port": 9000, "sourceLabels": {"app": "a"}}], "route": [to("web", "v1")]}]
    found = scope(web(ports=TCP), subsets("v1"), virtual_service(tcp=rules), number=9000)
    assert [connection_shares(found, index) for index in (0, 1)] == [
        [("web.default/v1:9000", 0)],
        [("web.default:9000", 1)],
    ]
    assert found.tcp[0].matches[0].source_labels == {"app": "a"}
    assert not found.tcp[1].matches


def test_destination_subnets() -> None:
    match = {"destinationSubnets": ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32"]}
    items = (web(ports=TCP), virtual_service(tcp=[{"match": [match], "route": [to("web")]}]))
    subnets = scope(*items, number=9000).tcp[0].matches[0].destination_subnets
    assert [(len(one.address), one.length) for one in subnets] == [(4, 8), (4, 32), (16, 32)]


def test_tls_rules_are_for_ports_of_tls() -> None:
    rules = [{"match": [{"sniHosts": [WEB], "port": 443}], "route": [to("web")]}]
    item = virtual_service(tls=rules, hosts=[WEB])
    found = port(web(ports=[*TLS, *TCP]), item, number=443)
    assert found and found.protocol == pb.TLS
    [only] = found.scopes
    assert only.tls[0].matches[0].sni_hosts == [WEB]
    assert port(web(ports=[*TLS, *TCP]), item, number=9000) is None


def test_a_redirect_and_rules_of_a_service_entry() -> None:
    items = (service_entry(), virtual_service({"redirect": {"uri": "/"}}, hosts=["api.example"]))
    assert scope(*items, host="api.example").http[0].redirect.full == "/"


def under(*items: Object, host: str = "*.example") -> dict[str, list[pb.Scope]]:
    """What holds for names under a wildcard at its port."""
    found = port(service_entry(hosts=[host], resolution="NONE"), *items, host=host)
    return {one.host: list(one.scopes) for one in found.hosts} if found else {}


def test_rules_for_a_name_under_a_wildcard() -> None:
    """Each name has its own; its own name is the service's there, unless another object has it."""
    slow = {"timeout": "1s", "route": [to("api.example")]}
    items = (
        virtual_service(slow, name="api", hosts=["api.example"]),
        virtual_service({"redirect": {"uri": "/"}}, name="b", hosts=["*.b.example", "web"]),
        virtual_service({"route": [to("far.example")]}, name="c", hosts=["c.example"]),
    )
    found = under(*items)
    assert [*found] == ["api.example", "c.example", "*.b.example"]
    assert shares(found["api.example"][0]) == [("*.example:80", 0)]
    assert found["api.example"][0].http[0].forward.timeout_ms == 1000
    assert found["*.b.example"][0].http[0].redirect.full == "/"
    assert shares(found["c.example"][0]) == [("503 NC", 0)], "another name is no part of it"
    assert shares(scope(service_entry(hosts=["*.example"]), *items, host="*.example")) == [
        ("*.example:80", 1)
    ]
    itself = service_entry("itself", hosts=["api.example"])
    assert shares(under(*items, itself)["api.example"][0]) == [("api.example:80", 0)]
    assert under(*items, host="*.b.example") == {}, "what is for the whole wildcard is the service's"


def test_a_delegates_rules_for_a_name_under_a_wildcard() -> None:
    """They are for the hosts of whoever delegates, in mirrors too; without these they are for none."""
    delegates = {"delegate": {"name": "other"}}
    root = virtual_service(delegates, name="api", hosts=["api.example"])
    theirs = {"route": [to("api.example")], "mirror": to("api.example")["destination"]}
    other = virtual_service(theirs, name="other", hosts=[])
    [found] = under(root, other)["api.example"]
    assert shares(found) == [("*.example:80", 0)]
    assert [one.destination for one in found.http[0].mirrors] == [0]
    wild, key = service_entry(hosts=["*.example"], resolution="NONE"), key_of(other)
    early = model_of(root, other)
    assert "503" in early.problems[key]
    assert key not in model_of(wild, base=early).problems, "it is looked at again"
    assert "503" in model_of(wild, other).problems[key], "nobody has left this name to it"


def test_rules_for_a_name_that_dns_is_asked_for() -> None:
    """Its own name is the wildcard's; another one is not where a request's Host leads."""
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    wild = service_entry(hosts=["*.example"], ports=ports, resolution="DYNAMIC_DNS")
    rules = ({"timeout": "1s", "route": [to("api.example")]}, {"route": [to("b.example")]})
    item = virtual_service(*rules, name="api", hosts=["api.example"])
    told = port(wild, item, host="*.example")
    assert told
    [[found]] = [list(one.scopes) for one in told.hosts]
    assert [shares(found, index) for index in (0, 1)] == [[("*.example:80", 0)], [("503 NC", 0)]]
    assert found.destinations[0].policy.load_balancer == pb.LoadBalancer(algorithm=pb.DYNAMIC_DNS)


def test_clients_of_a_name_under_a_wildcard() -> None:
    item = virtual_service({"redirect": {"uri": "/"}}, hosts=["api.example"], exportTo=["."])
    mine, others = under(item)["api.example"]
    assert ([*mine.namespaces], mine.http[0].redirect.full) == (["default"], "/")
    assert shares(others) == [("*.example:80", 1)]


def test_names_of_servers_under_a_wildcard() -> None:
    ports = [{"number": 443, "name": "tls", "protocol": "TLS"}]
    wild = service_entry(hosts=["*.example"], ports=ports, resolution="NONE")
    rules = [{"match": [{"sniHosts": ["api.example"]}], "route": [to("api.example")]}]
    item = virtual_service(hosts=["api.example"], tls=rules, tcp=[{"route": [to("web")]}])
    found = scope(wild, item, host="*.example", number=443)
    assert found.tls[0].matches[0].sni_hosts == ["api.example"]
    assert [one.hostname for one in found.destinations] == ["*.example"]
    assert connection_shares(found) == [("*.example:443", 1)], "what names no server is nobody's"


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("http", pb.HTTP),
        ("http2", pb.HTTP2),
        ("grpc", pb.GRPC),
        ("grpc-web", pb.HTTP),
        ("kubernetes.io/h2c", pb.HTTP2),
    ],
)
def test_protocols(protocol: str, expected: pb.Protocol) -> None:
    found = port(web(ports=[{"port": 80, "name": "odd", "appProtocol": protocol}]), virtual_service(PLAIN))
    assert found and found.protocol == expected


def test_a_refused_one_that_never_was_good_answers_with_503() -> None:
    raw = {"metadata": {"name": "a"}, "spec": {"hosts": ["web"], "http": [{"odd": 1}], "tcp": [{}]}}
    item = strictest(KINDS["VirtualService"], Key("VirtualService", "default", "a"), raw, "odd")
    assert isinstance(item, Policy) and item.in_force == "its hosts answer with 503"
    assert scope(web(), item).http[0].respond.status == 503
    assert connection_shares(scope(web(ports=TCP), item, number=9000)) == [("503 NC", 0)]


def test_what_the_author_should_know() -> None:
    def problems(item: Object, *others: Object) -> str:
        return "".join(model_of(web(), item, *others).problems.values())

    assert problems(virtual_service(PLAIN)) == ""
    assert "is no service of the mesh" in problems(virtual_service(PLAIN, hosts=["gone"]))
    assert "http[1] is never reached" in problems(virtual_service(PLAIN, {"name": "b", **PLAIN}))
    wild = service_entry(hosts=["*.example"], resolution="NONE")
    named = virtual_service({"route": [to("api.example")]}, hosts=["api.example"])
    assert problems(named, wild) == ""
    assert "is no service of the mesh" in problems(named)
    assert "no service gone.default" in problems(virtual_service({"route": [to("gone")]}))
    assert "has no subset v9" in problems(virtual_service({"route": [to("web", "v9")]}))
    assert "there is no Gateway default/gw" in problems(virtual_service(PLAIN, gateways=["gw"]))
    assert "nothing is delayed" in problems(
        virtual_service({**PLAIN, "fault": {"delay": {"fixedDelay": "1s"}}})
    )
    assert "the rule is left out" in problems(virtual_service({"delegate": {"name": "gone"}}))
    assert "301 is sent" in problems(virtual_service({"redirect": {"uri": "/", "redirectCode": 304}}))


def test_annotated_services_have_routes_of_their_own() -> None:
    assert port(web()) is None
    found = port(web(metadata={"annotations": {"warren.dev/l7": "true"}}))
    assert found and shares(found.scopes[0]) == [("web.default:80", 1)]
    namespace = make("Namespace", "default", annotations={"warren.dev/l7": "true"})
    assert port(web(), namespace)
    assert port(web(metadata={"annotations": {"warren.dev/l7": "false"}}), namespace) is None
