"""Service -> Service message, one table for each fact."""

from typing import Any

import pytest

from agent.model.objects import Object
from protocols.workload_pb2 import AppProtocol, IPFamilies, LoadBalancing
from tests.agent.model.objects import addresses, make, model_of, service, service_of

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


@pytest.mark.parametrize(
    ("port", "target", "protocol"),
    [
        ({"port": 80}, 80, AppProtocol.UNKNOWN),
        ({"port": 80, "targetPort": 8080, "name": "http"}, 8080, AppProtocol.HTTP11),
        ({"port": 80, "targetPort": "web", "name": "http-web"}, 0, AppProtocol.HTTP11),
        ({"port": 80, "name": "HTTP2-x"}, 80, AppProtocol.HTTP2),
        ({"port": 80, "name": "grpc-web"}, 80, AppProtocol.GRPC),
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
