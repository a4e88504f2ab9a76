"""DestinationRule -> destinations: which one holds for whom, and what becomes of its policy."""

import pytest
from google.protobuf import text_format

from agent.model.engine.refusal import strictest
from agent.model.kinds import KINDS
from agent.model.schema.objects import Key, Object
from protocols import routes_pb2 as pb
from tests.agent.model.objects import model_of, pod, service_entry, workload
from tests.agent.model.translation.routes.tables import (
    API,
    HTTP,
    WEB,
    Spec,
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
ROUTED = virtual_service({"route": [to("web")]})
DEFAULT_POOL = "connect_timeout_ms: 10000 tcp_idle_timeout_ms: 3600000 http_idle_timeout_ms: 3600000"


def limit(count: int) -> Spec:
    """A policy that can be told from others."""
    return {"connectionPool": {"tcp": {"maxConnections": count}}}


def of(name: str, namespace: str = "default", host: str = WEB, limit_: int = 1, **spec: object) -> Object:
    return rule(name, namespace, host=host, trafficPolicy=limit(limit_), **spec)  # type: ignore[arg-type]


def limit_for(namespace: str, *rules: Object) -> int:
    """The limit that holds for clients of a namespace."""
    [destination] = scope(web(), ROUTED, *rules, namespace=namespace).destinations
    return destination.policy.connection_pool.max_connections


def test_the_clients_namespace_then_the_services_then_the_root() -> None:
    rules = [of("a", "client", limit_=1), of("b", "default", limit_=2), of("c", "istio-system", limit_=3)]
    assert [limit_for("client", *rules[index:]) for index in range(4)] == [1, 2, 3, 0]


def test_connections_find_their_rules_as_requests_do() -> None:
    tcp = web(ports=[{"port": 80, "name": "tcp"}])
    rules = [of("a", "client", limit_=1), of("b", "default", limit_=2), of("c", "istio-system", limit_=3)]
    for index in range(3):
        found = scope(tcp, *rules[index:], namespace="client")
        [destination] = found.destinations
        assert destination.policy.connection_pool.max_connections == index + 1
        assert destination.origin.startswith("DestinationRule ")
        assert connection_shares(found) == [("web.default:80", 1)]
    assert [limit_for("", *rules[index:]) for index in range(4)] == [2, 2, 3, 0]


def test_a_rule_of_a_third_namespace_holds_for_nobody_else() -> None:
    assert limit_for("", of("a", "third")) == 0
    assert limit_for("third", of("a", "third")) == 1


def test_in_a_namespace_the_most_specific_host_counts() -> None:
    wild, wilder = of("a", host="*.default.svc.cluster.local", limit_=2), of("b", host="*.local", limit_=3)
    assert limit_for("", wilder, wild) == 2
    assert limit_for("", wilder, wild, of("c", limit_=1)) == 1
    assert limit_for("", of("d", "client", host="*", limit_=4), wild) == 2
    assert limit_for("client", of("d", "client", host="*", limit_=4), wild) == 4


@pytest.mark.parametrize(
    ("export_to", "own", "named", "others"),
    [([], 1, 1, 1), (["*"], 1, 1, 1), (["."], 1, 0, 0), (["named"], 0, 1, 0), ([".", "named"], 1, 1, 0)],
)
def test_export_to(export_to: list[str], own: int, named: int, others: int) -> None:
    item = of("a", exportTo=export_to)
    assert [limit_for(name, item) for name in ("default", "named", "")] == [own, named, others]


def test_rules_for_one_host_are_merged_the_oldest_first() -> None:
    """Also where the oldest has no policy; of subsets of one name the first counts."""
    first = rule("b", created=OLD, subsets=versions("v1"))
    second = rule("a", created=NEW, trafficPolicy=limit(2), subsets=versions("v1", "v2"))
    third = rule("c", created=NEW, trafficPolicy=limit(3))
    items = (
        web(),
        first,
        second,
        third,
        virtual_service({"route": [to("web", "v1", 1), to("web", "v2", 1)]}),
    )
    found = scope(*items)
    assert [one.policy.connection_pool.max_connections for one in found.destinations] == [2, 2]
    assert shares(found) == [("web.default/v1:80", 1), ("web.default/v2:80", 1)]
    said = model_of(*items).problems
    assert "subsets: v1 is ignored" in said[Key("DestinationRule", "default", "a")]
    assert "ignored, that of DestinationRule default/a" in said[Key("DestinationRule", "default", "c")]


def test_a_rule_for_some_clients() -> None:
    selector = {"matchLabels": {"app": "client"}}
    items = (web(), ROUTED, of("a", limit_=1), of("b", limit_=2, workloadSelector=selector))
    found = port(*items)
    assert found
    assert [(list(one.namespaces), dict(one.labels)) for one in found.scopes] == [
        (["default"], {"app": "client"}),
        ([], {}),
    ]
    limits = [one.destinations[0].policy.connection_pool.max_connections for one in found.scopes]
    assert limits == [2, 1]


@pytest.mark.parametrize(
    ("top", "subset", "expected"),
    [
        ({}, {}, (0, "")),
        (limit(1), {}, (1, "")),
        (limit(1), limit(2), (2, "")),
        ({**limit(1), "tls": {"mode": "ISTIO_MUTUAL"}}, limit(2), (2, "ISTIO_MUTUAL")),
        ({**limit(1), "portLevelSettings": [{"port": {"number": 80}, **limit(3)}]}, {}, (3, "")),
        ({**limit(1), "portLevelSettings": [{"port": {"number": 81}, **limit(3)}]}, {}, (1, "")),
        (
            {**limit(1), "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "ISTIO_MUTUAL"}}]},
            {},
            (0, "ISTIO_MUTUAL"),
        ),
        (
            {**limit(1), "portLevelSettings": [{"port": {"number": 80}, **limit(3)}]},
            {"tls": {"mode": "ISTIO_MUTUAL"}},
            (3, "ISTIO_MUTUAL"),
        ),
        (
            limit(1),
            {**limit(2), "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "ISTIO_MUTUAL"}}]},
            (0, "ISTIO_MUTUAL"),
        ),
    ],
)
def test_merging(top: Spec, subset: Spec, expected: tuple[int, str]) -> None:
    [one] = versions("v1")
    subsets = [{**one, **({"trafficPolicy": subset} if subset else {})}]
    whole: Spec = {"trafficPolicy": top} if top else {}
    item = rule(subsets=subsets, **whole)
    [found] = scope(web(), item, virtual_service({"route": [to("web", "v1")]})).destinations
    mode = pb.TlsMode.Name(found.policy.tls.mode) if found.policy.HasField("tls") else ""
    assert (found.policy.connection_pool.max_connections, mode) == expected
    assert (dict(found.labels), found.origin) == ({"version": "v1"}, "DestinationRule default/web")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"loadBalancer": {}}, "load_balancer {}"),
        ({"loadBalancer": {"simple": "LEAST_CONN"}}, "load_balancer {}"),
        ({"loadBalancer": {"simple": "ROUND_ROBIN"}}, "load_balancer {algorithm: ROUND_ROBIN}"),
        ({"loadBalancer": {"simple": "PASSTHROUGH"}}, "load_balancer {algorithm: PASSTHROUGH}"),
        ({"loadBalancer": {"consistentHash": {}}}, "load_balancer {algorithm: RANDOM}"),
        ({"loadBalancer": {"consistentHash": {"useSourceIp": False}}}, "load_balancer {algorithm: RANDOM}"),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 2**40}}},
            "load_balancer {consistent_hash {source_ip: true minimum_ring_size: 8388608}}",
        ),
        (
            {"loadBalancer": {"consistentHash": {"httpHeaderName": "X-A"}}},
            'load_balancer {consistent_hash {header: "x-a"}}',
        ),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 7}}}},
            "load_balancer {consistent_hash {source_ip: true maglev_table_size: 7}}",
        ),
        (
            {
                "loadBalancer": {
                    "consistentHash": {
                        "httpCookie": {
                            "name": "c",
                            "path": "/",
                            "ttl": "0s",
                            "attributes": [{"name": "Secure"}],
                        },
                        "ringHash": {"minimumRingSize": 9},
                    }
                }
            },
            'load_balancer {consistent_hash {cookie {name: "c" path: "/" ttl_ms: 0 '
            'attributes {name: "Secure"}} minimum_ring_size: 9}}',
        ),
        (
            {"loadBalancer": {"consistentHash": {"httpQueryParameterName": "q", "minimumRingSize": 9}}},
            'load_balancer {consistent_hash {query: "q" minimum_ring_size: 9}}',
        ),
        (
            {"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "30s"}}},
            "load_balancer {algorithm: RANDOM "
            "warmup {duration_ms: 30000 minimum_parts: 100000 aggression: 1}}",
        ),
        (
            {"loadBalancer": {"warmupDurationSecs": "30s"}},
            "load_balancer {warmup {duration_ms: 30000 minimum_parts: 100000 aggression: 1}}",
        ),
        (
            {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a/*", "to": {"b": 100}}]}}},
            'load_balancer {locality {distribute {from: "a/*" to {key: "b" value: 100}}}}',
        ),
        ({"loadBalancer": {"localityLbSetting": {"failoverPriority": ["a"]}}}, "load_balancer {}"),
        (
            {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["a"]}}, "outlierDetection": {}},
            'load_balancer {locality {priority: "a"}} outlier_detection {consecutive_5xx: 5 '
            "interval_ms: 10000 base_ejection_ms: 30000 max_ejection_percent: 10}",
        ),
        (
            {
                "loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}},
                "outlierDetection": {},
            },
            'load_balancer {locality {failover: true failovers {from: "a" to: "b"}}} '
            "outlier_detection {consecutive_5xx: 5 "
            "interval_ms: 10000 base_ejection_ms: 30000 max_ejection_percent: 10}",
        ),
        ({"loadBalancer": {"localityLbSetting": {"enabled": False}}}, "load_balancer {}"),
        (
            {
                "connectionPool": {
                    "tcp": {"maxConnections": 1, "connectTimeout": "30ms", "idleTimeout": "0s"}
                    | {"maxConnectionDuration": "1m", "tcpKeepalive": {"time": "1s", "probes": 2}},
                }
            },
            "connection_pool {max_connections: 1 connect_timeout_ms: 30 http_idle_timeout_ms: 3600000 "
            "max_connection_duration_ms: 60000 tcp_keepalive {probes: 2 time_ms: 1000}}",
        ),
        (
            {
                "connectionPool": {
                    "http": {
                        "http1MaxPendingRequests": 1,
                        "http2MaxRequests": 2,
                        "maxRequestsPerConnection": 3,
                    }
                    | {"maxRetries": 4, "idleTimeout": "5s", "maxConcurrentStreams": 6},
                }
            },
            f"connection_pool {{{DEFAULT_POOL.replace('http_idle_timeout_ms: 3600000', '')} "
            "http1_max_pending_requests: 1 http2_max_requests: 2 max_requests_per_connection: 3 "
            "max_retries: 4 http_idle_timeout_ms: 5000 max_concurrent_streams: 6}",
        ),
        (
            {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}},
            f"connection_pool {{{DEFAULT_POOL} upstream_protocol: UPGRADE_TO_HTTP2}}",
        ),
        (
            {"connectionPool": {"http": {"useClientProtocol": True}}},
            f"connection_pool {{{DEFAULT_POOL} upstream_protocol: AS_CLIENT}}",
        ),
        (
            {
                "outlierDetection": {
                    "consecutive5xxErrors": 0,
                    "consecutiveGatewayErrors": 2,
                    "interval": "1s",
                }
                | {"splitExternalLocalOriginErrors": True, "minHealthPercent": 50, "maxEjectionPercent": 100}
                | {"outlierDetectionHttpErrorCodes": [503], "baseEjectionTime": "3m"}
            },
            "outlier_detection {consecutive_gateway_errors: 2 split_local_origin: true "
            "consecutive_local_origin_failures: 5 interval_ms: 1000 base_ejection_ms: 180000 "
            "max_ejection_percent: 100 min_health_percent: 50 error_statuses: 503}",
        ),
        (
            {"tls": {"mode": "SIMPLE", "sni": "a", "subjectAltNames": ["b"], "insecureSkipVerify": False}},
            'tls {mode: SIMPLE sni: "a" subject_alt_names: "b"}',
        ),
        ({"tls": {"mode": "DISABLE"}}, "tls {mode: DISABLE}"),
        ({"proxyProtocol": {"version": "V2"}}, "proxy_protocol: V2"),
        ({"proxyProtocol": {}}, "proxy_protocol: V1"),
        ({"tunnel": {"targetHost": "a", "targetPort": 1}}, 'tunnel {method: "CONNECT" host: "a" port: 1}'),
        ({"retryBudget": {}}, "retry_budget {parts: 200000 min_retry_concurrency: 3}"),
        (
            {"retryBudget": {"percent": 1.5, "minRetryConcurrency": 7, "budgetInterval": "1s"}},
            "retry_budget {parts: 15000 min_retry_concurrency: 7 interval_ms: 1000}",
        ),
    ],
)
def test_policies(policy: Spec, expected: str) -> None:
    [found] = scope(web(), ROUTED, rule(trafficPolicy=policy)).destinations
    assert found.policy == text_format.Parse(expected, pb.Policy())


@pytest.mark.parametrize(
    ("policy", "protocol"),
    [
        ({"loadBalancer": {"simple": "ROUND_ROBIN"}}, pb.HTTP),
        ({"loadBalancer": {"consistentHash": {"httpHeaderName": "a"}}}, pb.HTTP),
        ({"loadBalancer": {"consistentHash": {"useSourceIp": True}}}, pb.TCP),
        ({"loadBalancer": {"simple": "PASSTHROUGH"}}, None),
        ({"connectionPool": {"http": {"http2MaxRequests": 1}}}, pb.HTTP),
        ({"connectionPool": {"tcp": {"maxConnections": 1}}}, pb.TCP),
        ({"outlierDetection": {}}, pb.HTTP),
        ({"tls": {"mode": "SIMPLE"}}, pb.HTTP),
        ({"tls": {"mode": "DISABLE"}}, pb.TCP),
        ({"tls": {"mode": "ISTIO_MUTUAL"}}, pb.TCP),
        ({"proxyProtocol": {}}, pb.TCP),
        ({"retryBudget": {}}, pb.HTTP),
        (None, None),
    ],
)
def test_what_only_requests_show_is_looked_for_in_them(policy: Spec | None, protocol: int | None) -> None:
    """All else stays with connections, and what asks for nothing with the tunnel's usual ways."""
    written: Spec = {"trafficPolicy": policy} if policy else {}
    found = port(web(), rule(subsets=versions("v1"), **written))
    assert (found.protocol if found else None) == protocol
    if found and protocol == pb.TCP:
        assert connection_shares(found.scopes[-1]) == [("web.default:80", 1)]


def test_session_affinity() -> None:
    affine = web(sessionAffinity="ClientIP")
    [found] = scope(affine).destinations
    assert found.policy.load_balancer.consistent_hash.source_ip
    [found] = scope(affine, rule(trafficPolicy={"loadBalancer": {"simple": "RANDOM"}})).destinations
    assert not found.policy.load_balancer.HasField("consistent_hash")


def test_traffic_distribution() -> None:
    [found] = scope(web(trafficDistribution="PreferClose"), ROUTED).destinations
    assert found.policy.load_balancer.locality.priority == [
        *("topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone")
    ]
    assert port(web(trafficDistribution="PreferClose")) is None


def test_a_service_entry_without_resolution_is_passed_through() -> None:
    items = (
        service_entry(resolution="NONE"),
        virtual_service({"route": [to("api.example")]}, hosts=["api.example"]),
    )
    [found] = scope(*items, host="api.example").destinations
    assert found.policy.load_balancer.algorithm == pb.PASSTHROUGH


DYNAMIC = [
    {"number": number, "name": protocol.lower(), "protocol": protocol}
    for number, protocol in ((80, "HTTP"), (81, "HTTP2"), (82, "GRPC"), (443, "TLS"))
]


@pytest.mark.parametrize("number", [80, 81, 82, 443])
@pytest.mark.parametrize("balancer", [{}, {"simple": "RANDOM"}, {"consistentHash": {"useSourceIp": True}}])
def test_a_service_entry_that_dns_is_asked_for_is_routed_by_name(number: int, balancer: Spec) -> None:
    """Without anybody's rules, whatever a DestinationRule says of its endpoints."""
    policy = rule(host="*.example", trafficPolicy={"loadBalancer": balancer})
    entry = service_entry(hosts=["*.example"], ports=DYNAMIC, resolution="DYNAMIC_DNS")
    for items in ((entry,), (entry, policy)):
        [found] = scope(*items, host="*.example", number=number).destinations
        assert (found.hostname, found.port) == ("*.example", number)
        assert found.policy.load_balancer == pb.LoadBalancer(algorithm=pb.DYNAMIC_DNS)


@pytest.mark.parametrize(
    ("tls", "name"),
    [
        (
            {"mode": "MUTUAL", "clientCertificate": "/a", "privateKey": "/b"},
            "Files/certificate=%2Fa&key=%2Fb",
        ),
        ({"mode": "SIMPLE", "clientCertificate": "/a", "caCertificates": "/c d"}, "Files/roots=%2Fc+d"),
        ({"mode": "SIMPLE", "caCertificates": "/a", "caCrl": "/b"}, "Files/roots=%2Fa&crl=%2Fb"),
        ({"mode": "SIMPLE", "credentialName": "a"}, "Secret/a"),
        ({"mode": "MUTUAL", "credentialName": "kubernetes://a"}, "Secret/a"),
        ({"mode": "SIMPLE"}, ""),
        ({"mode": "ISTIO_MUTUAL"}, ""),
        ({"mode": "DISABLE", "caCertificates": "/a"}, ""),
    ],
)
def test_credentials_are_named_and_not_told(tls: Spec, name: str) -> None:
    [found] = scope(web(), ROUTED, rule(trafficPolicy={"tls": tls})).destinations
    assert found.policy.tls.credential == name


@pytest.mark.parametrize(
    ("spec", "answer"), [({"tls": {"mode": "ODD"}}, "503 UF"), ({"odd": 1}, "web.default:80")]
)
def test_a_refused_one_sends_nothing_in_the_clear_that_was_to_be_sealed(spec: Spec, answer: str) -> None:
    raw = {"metadata": {"name": "a"}, "spec": {"host": "web", "trafficPolicy": spec}}
    item = strictest(KINDS["DestinationRule"], Key("DestinationRule", "default", "a"), raw, "odd")
    assert item
    assert shares(scope(web(), ROUTED, item)) == [(answer, 0)]


def test_tunnels_are_told_labels_that_somebody_asks_for() -> None:
    labels = {"app": "web", "version": "v1", "tier": "a", "unasked": "x"}
    bare = model_of(pod("a", labels=labels), web())
    assert not workload(bare, "a").labels
    asked = model_of(rule(subsets=versions("v1")), base=bare)
    assert workload(asked, "a").labels == {"version": "v1"}
    match = {"match": [{"sourceLabels": {"tier": "a"}}], "route": [to("web")]}
    both = model_of(virtual_service(match), base=asked)
    assert workload(both, "a").labels == {"version": "v1", "tier": "a"}
    selector = {"matchLabels": {"app": "web"}}
    assert "app" in workload(model_of(rule("b", workloadSelector=selector), base=both), "a").labels


def test_what_the_author_should_know() -> None:
    def problems(item: Object) -> str:
        return "".join(model_of(web(), item).problems.values())

    assert problems(rule(subsets=versions("v1"))) == ""
    assert "is no service of the mesh" in problems(rule(host="gone"))
    assert problems(rule(host="*.example")) == ""
    zone: Spec = {"loadBalancer": {"zoneAwareLbSetting": {}}}
    assert "zoneAwareLbSetting is not enforced" in problems(rule(trafficPolicy=zone))
    locality = {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["a"]}}}
    assert "no effect without outlierDetection" in problems(rule(trafficPolicy=locality))


def test_rules_hold_for_what_others_send_to() -> None:
    """Both for VirtualServices and routes of the Gateway API, which send to another service."""
    api = web("api", ports=[*HTTP])
    policy = rule("api", host=API, trafficPolicy=limit(7))
    for item in (
        virtual_service({"route": [to("api")]}),
        http_route({"backendRefs": [{"name": "api", "port": 80}]}),
    ):
        [found] = scope(web(), api, policy, item).destinations
        assert (found.hostname, found.policy.connection_pool.max_connections) == (API, 7)
