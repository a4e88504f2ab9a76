"""Service and ServiceEntry -> Service message, one table for each fact."""

from typing import Any

import pytest

from agent.model.schema.objects import Object
from protocols.workload_pb2 import AppProtocol, IPFamilies, LoadBalancing, Service, Visibility
from tests.agent.model.objects import addresses, make, model_of, service, service_entry, service_of

CLOSE = [LoadBalancing.NETWORK, LoadBalancing.REGION, LoadBalancing.ZONE]


def test_what_is_told_of_a_service() -> None:
    both = ["10.96.0.1", "fd00::1"]
    item = service("web", clusterIP=both[0], clusterIPs=both, ipFamilies=["IPv4", "IPv6"])
    model = model_of(item)
    message = service_of(model, "web")
    assert (message.name, message.namespace) == ("web", "default")
    assert message.hostname == "web.default.svc.cluster.local"
    assert message.canonical
    assert message.ip_families == IPFamilies.DUAL
    assert [a.address.hex() for a in message.addresses] == ["0a600001", "fd" + "00" * 14 + "01"]
    assert not any(a.HasField("length") for a in message.addresses)
    assert not message.HasField("load_balancing")
    [[resource]] = model.resources.values()
    assert resource.aliases == ("/10.96.0.1", "/fd00::1")


@pytest.mark.parametrize("ip", [{"clusterIP": "None"}, {"clusterIP": "None", "clusterIPs": ["None"]}, {}])
def test_headless(ip: dict[str, Any]) -> None:
    assert not service_of(model_of(service("web", **ip)), "web").addresses


def test_external_name_is_only_dns() -> None:
    assert addresses(model_of(service("web", type="ExternalName", externalName="example.org"))) == {}


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ([], IPFamilies.AUTOMATIC),
        (["IPv4"], IPFamilies.IPV4_ONLY),
        (["IPv6"], IPFamilies.IPV6_ONLY),
        (["IPv6", "IPv4"], IPFamilies.DUAL),
    ],
)
def test_families(families: list[str], expected: IPFamilies) -> None:
    assert service_of(model_of(service("web", ipFamilies=families)), "web").ip_families == expected


def test_families_that_nobody_filled_in() -> None:
    item = service("web", clusterIP="10.96.0.1", clusterIPs=["10.96.0.1", "fd00::1"])
    assert service_of(model_of(item), "web").ip_families == IPFamilies.DUAL


@pytest.mark.parametrize(
    ("port", "target", "protocol"),
    [
        ({"port": 80}, 80, AppProtocol.UNKNOWN),
        ({"port": 80, "targetPort": 8080, "name": "http"}, 8080, AppProtocol.HTTP11),
        ({"port": 80, "targetPort": "web", "name": "http-web"}, 0, AppProtocol.HTTP11),
        ({"port": 80, "name": "HTTP2-x"}, 80, AppProtocol.HTTP2),
        ({"port": 80, "name": "grpc-x"}, 80, AppProtocol.GRPC),
        ({"port": 80, "name": "gRPC-Web-x"}, 80, AppProtocol.UNKNOWN),
        ({"port": 80, "name": "https"}, 80, AppProtocol.TLS),
        ({"port": 80, "name": "http", "appProtocol": "tcp"}, 80, AppProtocol.TCP),
        ({"port": 80, "name": "http", "appProtocol": "mine"}, 80, AppProtocol.UNKNOWN),
        ({"port": 80, "appProtocol": "kubernetes.io/h2c"}, 80, AppProtocol.HTTP2),
        ({"port": 80, "appProtocol": "kubernetes.io/wss"}, 80, AppProtocol.TLS),
        ({"port": 3306}, 3306, AppProtocol.TCP),
        ({"port": 3306, "name": "http"}, 3306, AppProtocol.HTTP11),
        ({"port": 80, "name": "redis"}, 80, AppProtocol.TCP),
    ],
)
def test_ports(port: dict[str, Any], target: int, protocol: AppProtocol) -> None:
    [message] = service_of(model_of(service("web", [port])), "web").ports
    assert (message.service_port, message.target_port) == (port["port"], target)
    assert message.app_protocol == protocol


def test_udp_is_not_carried() -> None:
    ports = [{"port": 53, "name": "dns", "protocol": "UDP"}, {"port": 53, "name": "dns-tcp"}]
    assert len(service_of(model_of(service("web", ports)), "web").ports) == 1


def annotated(item: str, value: str) -> Object:
    annotations = {"networking.istio.io/traffic-distribution": value}
    if item == "namespace":
        return make("Namespace", "default", annotations=annotations)
    return service("web", metadata={"annotations": annotations})


@pytest.mark.parametrize(
    ("items", "mode", "scopes"),
    [
        ([service("web", trafficDistribution="PreferClose")], LoadBalancing.FAILOVER, CLOSE),
        ([service("web", trafficDistribution="PreferSameZone")], LoadBalancing.FAILOVER, CLOSE),
        (
            [service("web", trafficDistribution="PreferSameNode")],
            LoadBalancing.FAILOVER,
            [*CLOSE, LoadBalancing.SUBZONE, LoadBalancing.NODE],
        ),
        ([annotated("service", "preferclose")], LoadBalancing.FAILOVER, CLOSE),
        ([annotated("namespace", "PreferClose"), service("web")], LoadBalancing.FAILOVER, CLOSE),
        (
            [annotated("namespace", "PreferClose"), annotated("service", "Any")],
            LoadBalancing.UNSPECIFIED_MODE,
            [],
        ),
        (
            [service("web", internalTrafficPolicy="Local", trafficDistribution="PreferClose")],
            LoadBalancing.STRICT,
            [LoadBalancing.NODE],
        ),
    ],
)
def test_traffic_distribution(items: list[Object], mode: int, scopes: list[int]) -> None:
    message = service_of(model_of(*items), "web").load_balancing
    assert (message.mode, list(message.routing_preference)) == (mode, scopes)


def test_publish_not_ready_addresses() -> None:
    message = service_of(model_of(service("web", publishNotReadyAddresses=True)), "web").load_balancing
    assert message == LoadBalancing(health_policy=LoadBalancing.ALLOW_ALL)


def external(host: str = "api.example", **spec: Any) -> Service:
    """What becomes of a ServiceEntry, for one of its hosts."""
    status = spec.pop("status", {})
    entry = service_entry(metadata={"status": status, **spec.pop("metadata", {})}, **spec)
    return addresses(model_of(entry))[f"default/{host}"].service


def test_what_is_told_of_a_service_entry() -> None:
    names = ["spiffe://cluster.local/ns/default/sa/api"]
    ports = [
        {"number": 80, "name": "http", "targetPort": 8080},
        {"number": 443, "name": "x", "protocol": "TLS"},
    ]
    message = external(addresses=["10.97.0.1"], subjectAltNames=names, ports=ports)
    assert (message.name, message.namespace, message.hostname) == ("api", "default", "api.example")
    assert [(a.address, a.HasField("length")) for a in message.addresses] == [(bytes([10, 97, 0, 1]), False)]
    assert [(p.service_port, p.target_port) for p in message.ports] == [(80, 8080), (443, 443)]
    assert list(message.subject_alt_names) == names
    assert message.canonical
    assert message.ip_families == IPFamilies.AUTOMATIC
    assert not message.HasField("load_balancing")


def test_a_service_for_each_host() -> None:
    model = model_of(service_entry(hosts=["api.example", "*.b.example", "api.example"]))
    assert list(addresses(model)) == ["default/api.example", "default/*.b.example"]


@pytest.mark.parametrize(
    ("text", "address", "length"),
    [
        ("10.97.0.1", "0a610001", 0),
        ("10.97.0.1/32", "0a610001", 0),
        ("10.97.1.1/16", "0a610000", 16),
        ("fd00::1/64", "fd" + "00" * 15, 64),
        ("::ffff:10.97.0.1", "0a610001", 0),
    ],
)
def test_addresses_of_a_service_entry(text: str, address: str, length: int) -> None:
    [found] = external(addresses=[text]).addresses
    assert (found.address.hex(), found.length) == (address, length)


def test_a_range_is_not_asked_for_by_address() -> None:
    [[resource]] = model_of(service_entry(addresses=["10.97.0.0/16", "10.98.0.1"])).resources.values()
    assert resource.aliases == ("/10.98.0.1",)


ALLOTTED = {
    "addresses": [{"value": "240.240.0.1", "host": "api.example"}, {"value": "240.240.0.2", "host": "b"}]
}
OPTED_OUT = {"labels": {"networking.istio.io/enable-autoallocate-ip": "False"}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ["f0f00001"]),
        ({"resolution": "DNS"}, ["f0f00001"]),
        ({"resolution": "NONE"}, []),
        ({"addresses": ["10.97.0.1"]}, ["0a610001"]),
        ({"metadata": OPTED_OUT}, []),
        ({"hosts": ["other.example", "api.example"]}, ["f0f00001"]),
    ],
)
def test_allotted_addresses(spec: dict[str, Any], expected: list[str]) -> None:
    assert [a.address.hex() for a in external(status=ALLOTTED, **spec).addresses] == expected


@pytest.mark.parametrize(("resolution", "count"), [("STATIC", 0), ("DYNAMIC_DNS", 1)])
def test_allotted_addresses_of_a_wildcard(resolution: str, count: int) -> None:
    """It has one where clients name the host that they mean."""
    status = {"addresses": [{"value": "240.240.0.1", "host": "*.example"}]}
    message = external("*.example", hosts=["*.example"], resolution=resolution, status=status)
    assert len(message.addresses) == count


@pytest.mark.parametrize(
    ("protocol", "name", "expected"),
    [
        ("HTTP", "x", AppProtocol.HTTP11),
        ("http2", "x", AppProtocol.HTTP2),
        ("GRPC", "x", AppProtocol.GRPC),
        ("HTTPS", "x", AppProtocol.TLS),
        ("MONGO", "x", AppProtocol.TCP),
        ("grpc-web", "http", AppProtocol.UNKNOWN),
        ("", "http-x", AppProtocol.UNKNOWN),
        ("", "x", AppProtocol.UNKNOWN),
    ],
)
def test_protocol_of_a_service_entrys_port(protocol: str, name: str, expected: AppProtocol) -> None:
    [port] = external(ports=[{"number": 80, "name": name, "protocol": protocol}]).ports
    assert port.app_protocol == expected


def test_udp_of_a_service_entry_is_not_carried() -> None:
    assert not external(ports=[{"number": 53, "name": "dns", "protocol": "UDP"}]).ports


def test_without_resolution_connections_pass_to_where_they_went() -> None:
    wish = {"annotations": {"networking.istio.io/traffic-distribution": "PreferClose"}}
    assert external(resolution="NONE", metadata=wish).load_balancing == LoadBalancing(
        mode=LoadBalancing.PASSTHROUGH, health_policy=LoadBalancing.ALLOW_ALL
    )


@pytest.mark.parametrize("namespaced", [False, True])
def test_traffic_distribution_of_a_service_entry(namespaced: bool) -> None:
    wish = {"networking.istio.io/traffic-distribution": "PreferSameZone"}
    items = [service_entry(metadata={} if namespaced else {"annotations": wish})]
    items += [make("Namespace", "default", annotations=wish)] if namespaced else []
    message = addresses(model_of(*items))["default/api.example"].service.load_balancing
    assert (message.mode, list(message.routing_preference)) == (LoadBalancing.FAILOVER, CLOSE)


@pytest.mark.parametrize(
    ("to", "visibility"),
    [
        ([], Visibility.PUBLIC),
        (["*"], Visibility.PUBLIC),
        (["."], Visibility.NAMESPACE),
        (["default"], Visibility.NAMESPACE),
        ([".", "b"], Visibility.PUBLIC),
        (["~"], None),
    ],
)
def test_visibility(to: list[str], visibility: Visibility | None) -> None:
    annotations = {"networking.istio.io/exportTo": ",".join(to)}
    both = model_of(service_entry(exportTo=to), service("web", metadata={"annotations": annotations}))
    found = [one.service.visibility for one in addresses(both).values()]
    assert found == ([] if visibility is None else [visibility, visibility])


def test_the_ports_at_which_a_service_entry_is_named() -> None:
    protocols = ["HTTP", "HTTP2", "GRPC", "grpc-web", "HTTPS", "TLS", "TCP", "MONGO", ""]
    ports = [
        {"number": 80 + number, "name": f"p{number}", "protocol": protocol}
        for number, protocol in enumerate(protocols)
    ]
    message = external(ports=ports)
    assert (list(message.by_name.http), list(message.by_name.tls)) == ([80, 81, 82, 83], [84, 85])
    assert not service_of(model_of(service("web")), "web").HasField("by_name")
