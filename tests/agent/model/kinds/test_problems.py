"""What is told to the author of an object that does not do all that it says."""

from typing import Any

import pytest

from agent.model.model import apply
from agent.model.schema.objects import Key, Object, key_of
from tests.agent.model.objects import changes, make, model_of, service, service_entry, workload_entry

ENTRY = Key("ServiceEntry", "default", "api")


@pytest.mark.parametrize(
    "item",
    [
        service("web", clusterIP="10.96.0.1"),
        service("web", sessionAffinity="ClientIP"),
        service("web", type="ExternalName", clusterIP=""),
        service("web", metadata={"labels": {"istio.io/use-waypoint": "none"}}),
        make("Namespace", "default", labels={"istio.io/dataplane-mode": "ambient"}),
        service_entry(resolution="DNS"),
        service_entry(resolution="DNS", addresses=["10.97.0.1"], endpoints=[{"address": "b.example"}]),
        service_entry(resolution="NONE", addresses=["10.0.0.0/8"], exportTo=["."]),
        service_entry(addresses=["10.97.0.1"], endpoints=[{"address": "10.9.0.1"}]),
        service_entry(resolution="DNS", addresses=["10.97.0.1"], endpoints=[{"address": "10.9.0.1"}]),
        service_entry(resolution="DNS", addresses=["10.97.0.1"], workloadSelector={"labels": {"a": "b"}}),
        workload_entry("vm", "10.9.0.1"),
        workload_entry("vm", "db.example"),
    ],
    ids=lambda item: f"{type(item).__name__}",
)
def test_nothing_to_say(item: Object) -> None:
    assert dict(model_of(item).problems) == {}


GATEWAY = "no address: the endpoint is behind a network gateway, which this version does not support"


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            service("web", metadata={"labels": {"istio.io/use-waypoint": "w"}}),
            "label istio.io/use-waypoint: Gateway default/w is not there; connections are refused until then",
        ),
        (
            make("Namespace", "default", labels={"istio.io/use-waypoint": "w"}),
            "label istio.io/use-waypoint: Gateway default/w is not there; connections are refused until then",
        ),
        (
            service_entry(),
            "resolution STATIC without endpoints or a workloadSelector: connections are refused",
        ),
        (service_entry(endpoints=[{"network": "blue"}]), f"endpoints: {GATEWAY}"),
        (
            service_entry(endpoints=[{"address": "10.9.0.1"}, {"address": "10.9.0.1"}]),
            "endpoints: 10.9.0.1 is listed twice: the first one takes precedence",
        ),
        (
            service_entry(exportTo=["b", "."], resolution="NONE"),
            "exportTo: b is read as *: namespaces by name are not supported",
        ),
        (
            service("web", metadata={"annotations": {"networking.istio.io/exportTo": "c, b"}}),
            "exportTo: b, c is read as *: namespaces by name are not supported",
        ),
        (make("WorkloadEntry", "vm", spec={"network": "blue"}), GATEWAY),
    ],
)
def test_what_does_not_work(item: Object, problem: str) -> None:
    assert dict(model_of(item).problems) == {key_of(item): problem}


def test_a_hostname_that_is_anothers() -> None:
    first = service_entry(
        "a", {"creationTimestamp": "2026-01-01T00:00:00Z"}, resolution="NONE", exportTo=["."]
    )
    second = service_entry(metadata={"creationTimestamp": "2026-01-02T00:00:00Z"}, resolution="NONE")
    model = model_of(first, second)
    assert dict(model.problems) == {
        ENTRY: "hosts: api.example is also claimed by ServiceEntry default/a, which takes precedence",
    }
    model, delta = apply(model, [(key_of(first), None)])
    assert not model.problems
    assert len(delta.changed) == 1


def sharing(name: str, namespace: str = "default") -> Object:
    """A Service at the address 10.96.0.1."""
    return service(name, clusterIP="10.96.0.1", metadata={"namespace": namespace})


@pytest.mark.parametrize(
    ("first", "other", "where"),
    [
        (sharing("a"), sharing("b"), ""),
        (sharing("a-b"), sharing("a"), ""),
        (sharing("b", "a-b"), sharing("b", "a"), " outside of namespace a"),
        (service_entry(addresses=["10.96.0.1"], resolution="NONE"), sharing("b"), ""),
        (sharing("b"), service_entry(addresses=["10.96.0.1"], resolution="NONE", exportTo=["."]), ""),
    ],
)
def test_an_address_that_is_anothers(first: Object, other: Object, where: str) -> None:
    model = model_of(other, first)
    expected = f"address 10.96.0.1 is also claimed by {key_of(first)}, which takes precedence{where}"
    assert dict(model.problems) == {key_of(other): expected}
    assert not apply(model, [(key_of(first), None)])[0].problems


def test_several_at_once() -> None:
    item: dict[str, Any] = {"exportTo": ["b"], "endpoints": [{"network": "blue"}]}
    [problem] = model_of(service_entry(**item)).problems.values()
    assert problem.count("; ") == 1


def test_it_goes_when_the_object_goes() -> None:
    model = model_of(make("WorkloadEntry", "vm", spec={"network": "blue"}))
    model, _ = apply(model, changes(workload_entry("vm", "10.9.0.1")))
    assert not model.problems
