"""WorkloadEntry, a ServiceEntry's endpoints and an EndpointSlice's -> Workload, one table for each fact."""

from typing import Any

import pytest

from agent.model.model import Model
from protocols.workload_pb2 import Locality, NetworkMode, TunnelProtocol, Workload, WorkloadStatus
from tests.agent.model.objects import (
    addresses,
    endpoint_slice,
    make,
    model_of,
    pod,
    service,
    service_entry,
    workload,
    workload_entry,
)

DB = "default/db.default.svc.cluster.local"
API = "default/api.example"


def of_entry(model: Model, name: str = "vm") -> Workload:
    return addresses(model)[f"Kubernetes/networking.istio.io/WorkloadEntry/default/{name}"].workload


def inline(model: Model) -> dict[str, Workload]:
    """The workloads of the ServiceEntry `api`, by what stands at the end of their uid."""
    prefix = "Kubernetes/networking.istio.io/ServiceEntry/default/api/"
    found = {name.removeprefix(prefix): one for name, one in addresses(model).items()}
    return {name: one.workload for name, one in found.items() if one.HasField("workload")}


def of_slice(model: Model) -> dict[str, Workload]:
    """The workloads of the slice `db-1`, by address."""
    prefix = "Kubernetes/discovery.k8s.io/EndpointSlice/default/db-1/"
    found = addresses(model).items()
    return {name.removeprefix(prefix): one.workload for name, one in found if name.startswith(prefix)}


def ports(message: Workload, service: str) -> list[tuple[int, int]]:
    return [(port.service_port, port.target_port) for port in message.services[service].ports]


def test_what_is_told_of_a_workload_entry() -> None:
    item = workload_entry(
        "vm", "10.9.0.1", serviceAccount="shop", network="blue", locality="eu/eu-1/r4", weight=7
    )
    message = of_entry(model_of(item))
    assert (message.name, message.namespace, message.service_account) == ("vm", "default", "shop")
    assert (list(message.addresses), message.hostname) == ([bytes([10, 9, 0, 1])], "")
    assert (message.network, message.capacity.value) == ("blue", 7)
    assert message.locality == Locality(region="eu", zone="eu-1", subzone="r4")
    assert (message.status, message.tunnel_protocol) == (WorkloadStatus.HEALTHY, TunnelProtocol.NONE)
    [[resource]] = model_of(item).resources.values()
    assert resource.aliases == ("blue/10.9.0.1",)


def test_what_a_workload_entry_does_not_say() -> None:
    message = of_entry(model_of(workload_entry("vm", "10.9.0.1")))
    assert not message.HasField("locality")
    assert not message.HasField("capacity")
    assert (message.network, message.service_account) == ("", "")
    assert (message.canonical_name, message.canonical_revision, message.workload_name) == (
        "vm",
        "latest",
        "vm",
    )


def test_a_workload_entry_with_a_name_for_an_address() -> None:
    model = model_of(workload_entry("vm", "db.example"))
    assert (list(of_entry(model).addresses), of_entry(model).hostname) == ([], "db.example")
    [[resource]] = model.resources.values()
    assert resource.aliases == ()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "vm"),
        ({"labels": {"service.istio.io/workload-name": "shop"}}, "shop"),
        ({"annotations": {"istio.io/autoRegistrationGroup": "group"}}, "group"),
    ],
)
def test_workload_name(fields: dict[str, Any], name: str) -> None:
    message = of_entry(model_of(make("WorkloadEntry", "vm", spec={"address": "10.9.0.1"}, **fields)))
    assert message.workload_name == name


@pytest.mark.parametrize(
    ("fields", "protocol"),
    [
        ({}, TunnelProtocol.NONE),
        ({"labels": {"networking.istio.io/tunnel": "http"}}, TunnelProtocol.HBONE),
        ({"annotations": {"ambient.istio.io/redirection": "enabled"}}, TunnelProtocol.HBONE),
    ],
)
def test_how_it_is_reached(fields: dict[str, Any], protocol: TunnelProtocol) -> None:
    message = of_entry(model_of(make("WorkloadEntry", "vm", spec={"address": "10.9.0.1"}, **fields)))
    assert message.tunnel_protocol == protocol
    assert message.native_tunnel == ("labels" in fields)


def test_labels_of_the_object_before_those_of_its_spec() -> None:
    spec = {"address": "10.9.0.1", "labels": {"app": "spec", "version": "v2"}}
    message = of_entry(model_of(make("WorkloadEntry", "vm", spec=spec, labels={"app": "db"}), service("db")))
    assert (message.canonical_name, message.canonical_revision) == ("db", "v2")
    assert list(message.services) == [DB]


def test_an_unhealthy_workload_entry() -> None:
    status = {"conditions": [{"type": "Healthy", "status": "False"}]}
    item = make("WorkloadEntry", "vm", spec={"address": "10.9.0.1"}, status=status)
    assert of_entry(model_of(item)).status == WorkloadStatus.UNHEALTHY


@pytest.mark.parametrize(
    ("port", "own", "expected"),
    [
        ({"port": 80}, {}, [(80, 80)]),
        ({"port": 80, "targetPort": 8080}, {}, [(80, 8080)]),
        ({"port": 80, "targetPort": 8080, "name": "http"}, {"http": 9000}, [(80, 9000)]),
        ({"port": 80, "targetPort": "web", "name": "http"}, {"web": 9000}, [(80, 9000)]),
        ({"port": 80, "targetPort": "web", "name": "http"}, {"http": 9000}, []),
    ],
)
def test_ports_for_a_service(
    port: dict[str, Any], own: dict[str, int], expected: list[tuple[int, int]]
) -> None:
    item = workload_entry("vm", "10.9.0.1", ports=own, labels={"app": "db"})
    assert ports(of_entry(model_of(item, service("db", [port]))), DB) == expected


@pytest.mark.parametrize(
    ("port", "own", "expected"),
    [
        ({}, {}, 80),
        ({"targetPort": 8080}, {}, 8080),
        ({"targetPort": 8080}, {"http": 9000}, 9000),
        ({}, {"other": 9000}, 80),
    ],
)
def test_ports_for_a_service_entry(port: dict[str, Any], own: dict[str, int], expected: int) -> None:
    selector = {"labels": {"app": "db"}}
    entry = service_entry(ports=[{"number": 80, "name": "http", **port}], workloadSelector=selector)
    selected = workload_entry("vm", "10.9.0.1", ports=own, labels={"app": "db"})
    containers = [{"ports": [{"name": name, "containerPort": number} for name, number in own.items()]}]
    same = pod("a", labels={"app": "db"}, spec={"containers": containers})
    model = model_of(entry, selected, same)
    assert ports(of_entry(model), API) == [(80, expected)]
    assert ports(workload(model, "a"), API) == [(80, expected)]


def test_a_service_entry_selects_in_its_own_namespace_alone() -> None:
    entry = service_entry(workloadSelector={"labels": {"app": "db"}})
    model = model_of(entry, workload_entry("vm", "10.9.0.1"), pod("a", labels={"app": "db"}, namespace="b"))
    assert not of_entry(model).services
    assert not addresses(model)["Kubernetes//Pod/b/a"].workload.services


def test_what_is_told_of_an_inline_endpoint() -> None:
    endpoint = {
        "address": "10.9.0.1",
        "network": "blue",
        "serviceAccount": "shop",
        "locality": "eu",
        "weight": 3,
        "ports": {"http": 8080},
    }
    entry = service_entry(endpoints=[endpoint, {"address": "10.9.0.2"}], metadata={"labels": {"app": "shop"}})
    first, second = inline(model_of(entry)).values()
    assert (first.name, first.namespace, first.service_account) == ("api", "default", "shop")
    assert (list(first.addresses), first.network, first.capacity.value) == ([bytes([10, 9, 0, 1])], "blue", 3)
    assert first.locality == Locality(region="eu")
    assert (first.canonical_name, first.workload_name) == ("shop", "api")
    assert (ports(first, API), ports(second, API)) == ([(80, 8080)], [(80, 80)])
    assert second.network == "", "an endpoint's network is its own"


def test_inline_endpoints_serve_all_hosts() -> None:
    entry = service_entry(hosts=["api.example", "b.example"], endpoints=[{"address": "10.9.0.1"}])
    [message] = inline(model_of(entry)).values()
    assert sorted(message.services) == [API, "default/b.example"]


@pytest.mark.parametrize(
    ("resolution", "hosts"),
    [
        ("DNS", ["api.example", "b.example"]),
        ("DNS_ROUND_ROBIN", ["api.example", "b.example"]),
    ],
)
def test_each_host_that_is_resolved_is_the_endpoint_of_itself(resolution: str, hosts: list[str]) -> None:
    found = inline(model_of(service_entry(hosts=hosts, resolution=resolution)))
    assert {name: (one.hostname, list(one.services)) for name, one in found.items()} == {
        host: (host, [f"default/{host}"]) for host in hosts
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"resolution": "NONE"},
        {},
        {"resolution": "DNS", "workloadSelector": {}},
        {"resolution": "DYNAMIC_DNS", "hosts": ["*.example"]},
    ],
)
def test_a_service_entry_without_endpoints(spec: dict[str, Any]) -> None:
    assert inline(model_of(service_entry(**spec))) == {}


def test_of_two_endpoints_with_one_address_the_first_counts() -> None:
    endpoints = [{"address": "10.9.0.1", "weight": 1}, {"address": "10.9.0.1", "weight": 2}]
    [message] = inline(model_of(service_entry(endpoints=endpoints))).values()
    assert message.capacity.value == 1


PORTS = [{"name": "sql", "port": 5432}]


def database(**spec: Any) -> Any:
    """A Service without a selector."""
    return service("db", [{"port": 5432, "name": "sql"}], selector={}, **spec)


def test_what_is_told_of_a_slices_endpoint() -> None:
    unready: dict[str, Any] = {"addresses": ["fd00::1"], "conditions": {"ready": False}}
    draining = {"ready": False, "serving": True, "terminating": True}
    leaving: dict[str, Any] = {"addresses": ["10.9.0.2"], "conditions": draining}
    endpoints = [{"addresses": ["10.9.0.1"]}, unready, leaving]
    model = model_of(database(), endpoint_slice("db-1", "db", endpoints, [{"name": "sql", "port": 15432}]))
    found = of_slice(model)
    assert list(found) == ["10.9.0.1", "fd00::1", "10.9.0.2"]
    message = found["10.9.0.1"]
    assert (message.name, message.namespace, message.cluster_id) == ("db-1", "default", "Kubernetes")
    assert ports(message, DB) == [(5432, 15432)]
    assert message.network_mode == NetworkMode.HOST_NETWORK, "its address may be others' as well"
    healthy = [one.status == WorkloadStatus.HEALTHY for one in found.values()]
    assert healthy == [True, False, False]
    assert [one.draining for one in found.values()] == [False, False, True]
    resources = [one for those in model.resources.values() for one in those]
    assert {one.aliases for one in resources} == {()}
    assert {one.shares for one in resources} == {(), ("/10.9.0.1",), ("/10.9.0.2",), ("/fd00::1",)}


@pytest.mark.parametrize(
    ("name", "slice_ports", "expected"),
    [
        ("", [{"port": 1}], [(5432, 1)]),
        ("sql", [{"name": "sql", "port": 1}, {"name": "other", "port": 2}], [(5432, 1)]),
        ("sql", [{"name": "other", "port": 2}], []),
        ("sql", [{"name": "sql", "port": 1, "protocol": "UDP"}], []),
        ("sql", [{"name": "sql"}], []),
    ],
)
def test_ports_of_a_slice(name: str, slice_ports: list[Any], expected: list[tuple[int, int]]) -> None:
    item = service("db", [{"port": 5432, "name": name}], selector={})
    model = model_of(item, endpoint_slice("db-1", "db", [{"addresses": ["10.9.0.1"]}], slice_ports))
    assert ports(of_slice(model)["10.9.0.1"], DB) == expected


@pytest.mark.parametrize(
    "others",
    [
        [endpoint_slice("db-1", "", [{"addresses": ["10.9.0.1"]}], PORTS)],
        [endpoint_slice("db-1", "gone", [{"addresses": ["10.9.0.1"]}], PORTS)],
        [endpoint_slice("db-1", "db", [{"addresses": ["10.9.0.1"]}], PORTS, namespace="other")],
        [
            make(
                "EndpointSlice",
                "db-1",
                labels={"kubernetes.io/service-name": "db"},
                addressType="FQDN",
                endpoints=[{"addresses": ["db.example"]}],
            )
        ],
        [endpoint_slice("db-1", "db", [{"addresses": []}], PORTS)],
    ],
    ids=["no Service's", "Service is gone", "other namespace", "names", "no address"],
)
def test_slices_that_nobody_uses(others: list[Any]) -> None:
    assert of_slice(model_of(database(), *others)) == {}


def test_a_slice_of_an_external_name_is_not_used() -> None:
    model = model_of(
        database(type="ExternalName"), endpoint_slice("db-1", "db", [{"addresses": ["10.9.0.1"]}], PORTS)
    )
    assert addresses(model) == {}


def named(name: str, kind: str = "Pod") -> dict[str, Any]:
    return {"addresses": ["10.0.0.1"], "targetRef": {"kind": kind, "name": name}}


def test_a_pod_that_a_slice_names() -> None:
    model = model_of(
        database(),
        pod("a"),
        pod("b"),
        endpoint_slice("db-1", "db", [named("a")], [{"name": "sql", "port": 1}]),
    )
    assert of_slice(model) == {}, "the pod tells of itself"
    assert ports(workload(model, "a"), DB) == [(5432, 1)]
    assert not workload(model, "b").services, "an address alone makes no endpoint"


def test_a_slice_that_does_not_know_the_port_leaves_it_to_the_pod() -> None:
    model = model_of(database(), pod("a"), endpoint_slice("db-1", "db", [named("a")], []))
    assert ports(workload(model, "a"), DB) == [(5432, 5432)]


def test_a_selector_comes_before_slices() -> None:
    item = endpoint_slice("db-1", "db", [named("a"), named("b")], [{"name": "", "port": 1}])
    model = model_of(service("db"), pod("a", labels={"app": "db"}), pod("b"), item)
    assert ports(workload(model, "a"), DB) == [(80, 80)]
    assert not workload(model, "b").services, "it does not fit any longer, and its slice lags behind"


def test_what_a_slice_names_that_is_no_pod_is_an_endpoint_by_itself() -> None:
    model = model_of(database(), endpoint_slice("db-1", "db", [named("x", "VirtualMachine")], PORTS))
    assert list(of_slice(model)) == ["10.0.0.1"]
