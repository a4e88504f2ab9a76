"""ServiceEntries and WorkloadEntries that contradict themselves are refused, by field."""

from typing import Any

import msgspec
import pytest

from tests.agent.model.objects import make, service_entry, workload_entry

ENDPOINT = {"address": "10.9.0.1"}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"hosts": []}, "Expected `array` of length >= 1 - at `$.spec.hosts`"),
        ({"hosts": ["*"]}, "Expected `str` matching regex"),
        ({"hosts": ["a/b"]}, "Expected `str` matching regex"),
        ({"addresses": ["10.0.0"]}, "'10.0.0' does not appear to be an IPv4 or IPv6 address - at `$.spec`"),
        (
            {"addresses": ["10.0.0.0/8"], "resolution": "DNS"},
            "addresses: resolution DNS cannot have a range, 10.0.0.0/8 - at `$.spec`",
        ),
        (
            {"addresses": ["10.0.0.1"], "resolution": "DYNAMIC_DNS"},
            "addresses: resolution DYNAMIC_DNS has none - at `$.spec`",
        ),
        (
            {"endpoints": [ENDPOINT], "workloadSelector": {"labels": {"a": "b"}}},
            "endpoints and workloadSelector exclude each other - at `$.spec`",
        ),
        (
            {"endpoints": [ENDPOINT], "resolution": "NONE"},
            "endpoints: resolution NONE has none - at `$.spec`",
        ),
        (
            {"endpoints": [{"address": "db.example"}]},
            "endpoints: db.example is no address; for a name use resolution DNS - at `$.spec`",
        ),
        (
            {"hosts": ["*.example"], "resolution": "DNS"},
            "hosts: *.example cannot be resolved; give endpoints, or use DYNAMIC_DNS - at `$.spec`",
        ),
        ({"resolution": "static"}, "Invalid enum value 'static' - at `$.spec.resolution`"),
        (
            {"ports": [{"number": 80, "name": "a"}, {"number": 80, "name": "b"}]},
            "ports: number 80 is there twice - at `$.spec`",
        ),
        (
            {"ports": [{"number": 80, "name": "a"}, {"number": 81, "name": "a"}]},
            "ports: name a is there twice - at `$.spec`",
        ),
        ({"ports": [{"number": 0, "name": "a"}]}, "Expected `int` >= 1 - at `$.spec.ports[0].number`"),
    ],
)
def test_a_service_entry_is_refused(spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        service_entry(**spec)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    "spec",
    [
        {"hosts": ["*.example"], "resolution": "DNS", "endpoints": [{"address": "db.example"}]},
        {"hosts": ["*.example"], "resolution": "NONE", "addresses": ["10.0.0.0/8"]},
        {"endpoints": [{"network": "blue"}]},
        {"ports": []},
    ],
)
def test_a_service_entry_is_taken(spec: dict[str, Any]) -> None:
    service_entry(**spec)


@pytest.mark.parametrize(
    ("address", "spec", "reason"),
    [
        (
            "unix:///run/x",
            {},
            "address: a Unix socket cannot be an endpoint; give an address or a DNS name",
        ),
        ("", {}, "address is needed, or the network whose gateway leads there"),
        ("10.9.0.1", {"ports": {"http": 0}}, "Expected `int` >= 1"),
        ("10.9.0.1", {"weight": -1}, "Expected `int` >= 0"),
    ],
)
def test_a_workload_entry_is_refused(address: str, spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        workload_entry("vm", address, **spec)
    assert str(caught.value).startswith(reason)


def test_a_spec_is_needed() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `spec`"):
        make("WorkloadEntry", "vm")
