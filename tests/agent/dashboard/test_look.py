"""What the tunnel's records say of the edges of the map."""

import pytest

from agent.dashboard.look import Edge, Names, edges, events, opened, quantile, workloads
from protocols.admin import HeldWorkload
from protocols.record import Record

A, B = "workload/shop/client", "workload/shop/web"


def held(name: str, workload: str, tunnel: str = "HBONE") -> HeldWorkload:
    return HeldWorkload(
        name, "shop", name, workload, "id", ["10.0.0.1"], "node1", tunnel, False, True, ["shop/x"]
    )


NAMES = Names([held("client-1", "client"), held("web-1", "web"), held("web-2", "web")])
FROM_CLIENT = {"source_namespace": "shop", "source_pod": "client-1", "direction": "outbound"}
TO_WEB = {"namespace": "shop", "pod": "web-1"}


def record(**fields: object) -> Record:
    return Record(**{**FROM_CLIENT, **TO_WEB, "url_path": "tunnel", **fields})  # type: ignore[arg-type]


def test_connections_of_pods_are_counted_by_workload() -> None:
    other = {"pod": "web-2", "bytes_sent": 5, "bytes_recv": 6, "duration_ms": 10.0}
    [edge] = edges([record(duration_ms=10.0), record(**other)], 1, {}, NAMES)
    assert (edge.source, edge.destination, edge.inbound) == (A, B, False)
    assert (edge.connections, edge.requests, edge.bytes, edge.paths) == (2, 0, 11, {"tunnel": 2})
    assert edge.p99 == pytest.approx(10, rel=0.06)


def test_requests_count_and_the_connection_that_bore_them_does_not() -> None:
    request = record(method="GET", response_code=200, url_path="/x", security="mutual_tls", route_name="r")
    [edge] = edges([request, record(url_path="requests", pod="")], 1, {}, NAMES)
    assert (edge.requests, edge.connections, edge.paths, edge.routes) == (1, 0, {"tunnel": 1}, {"r": 1})
    [edge] = edges(
        [record(method="GET", response_code=503, url_path="/x", reason="no_endpoint")], 1, {}, NAMES
    )
    assert (edge.errors, edge.denied, edge.reasons) == (1, 0, {"no_endpoint": 1})


def test_what_a_policy_refuses_is_denied_and_has_a_reason() -> None:
    [edge] = edges([record(reason="policy_deny", error="denied by shop/nobody")], 1, {}, NAMES)
    assert (edge.denied, edge.errors, edge.reasons) == (1, 1, {"denied by shop/nobody": 1})
    assert not edge.paths and not edge.durations, "nothing went through"


def test_who_is_not_of_the_mesh_is_outside_or_a_service() -> None:
    nobody = {"namespace": "", "pod": "", "source_pod": "", "source_namespace": ""}
    found = edges([record(**nobody), record(**nobody, service="x.example")], 1, {}, NAMES)
    assert {(one.source, one.destination) for one in found} == {
        ("outside", "outside"),
        ("outside", "service/x.example"),
    }


def test_each_record_stands_for_those_that_were_lost() -> None:
    [edge] = edges([record(), record()], 3.5, {}, NAMES)
    assert edge.connections == 7


def test_what_is_open_is_told_without_an_end() -> None:
    still = opened([record(), record(pod="web-2"), record(url_path="requests", pod="")], NAMES)
    [edge] = edges([], 1, still, NAMES)
    assert (edge.open, edge.connections, edge.is_empty) == (2, 0, False)


def test_of_many_events_those_that_went_wrong_are_told() -> None:
    told = events([record()] * 100 + [record(reason="policy_deny", error="no")], NAMES, 7.0)
    assert len(told) == 50 and (told[0].verdict, told[0].why, told[0].at) == ("refused", "no", 7.0)


def test_a_workload_is_captured_when_all_its_pods_are() -> None:
    found = {one.name: one for one in workloads([held("a-1", "a"), held("a-2", "a", "PLAIN"), held("b", "")])}
    assert not found["a"].captured and len(found["a"].pods) == 2
    assert found["b"].captured and found["b"].id == "workload/shop/b"


def test_sums_lose_what_they_gained() -> None:
    one = Edge(A, B, requests=2, durations={3: 2.0}, paths={"tunnel": 2.0})
    total = Edge(A, B)
    total.add(one)
    total.add(one)
    total.add(one, -1)
    assert (total.requests, total.durations, total.paths) == (2, {3: 2.0}, {"tunnel": 2.0})
    total.add(one, -1)
    assert total.is_empty and not total.durations


def test_quantiles() -> None:
    assert quantile({}, 0.99) is None
    assert quantile({0: 99.0, 46: 1.0}, 0.99) == 1.0
    assert quantile({0: 98.0, 46: 2.0}, 0.99) == pytest.approx(99.5, rel=0.01)
