"""ServiceEntries and WorkloadEntries that contradict themselves are refused, by field.

What else is refused is in the table of `tests/validation`.
"""

from typing import Any

import msgspec
import pytest

from agent.model.kinds import KINDS
from agent.model.schema.objects import Key
from agent.sources import documents
from agent.sources.documents import Refused
from tests.agent.model.objects import make, service_entry

ENDPOINT = {"address": "10.9.0.1"}
PORTS = [{"number": 80, "name": "http", "protocol": "HTTP"}]


def refusal(kind: str, spec: dict[str, Any]) -> str:
    type_ = KINDS[kind].struct
    assert type_
    with pytest.raises(Refused) as refused:
        documents.convert({"metadata": {"name": "a"}, "spec": spec}, type_, Key(kind, "default", "a"))
    return str(refused.value)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"hosts": []}, "spec.hosts: Expected array of length >= 1"),
        ({"hosts": ["a.example", "*"]}, "spec.hosts[1]: '*' is no DNS name, nor one that begins with *"),
        ({"addresses": ["10.0.0"]}, "spec.addresses[0]: '10.0.0' is no address and no range such as"),
        (
            {"addresses": ["10.0.0.0/8"], "resolution": "DNS"},
            "spec.addresses[0]: 10.0.0.0/8: resolution DNS cannot have a range; give single addresses",
        ),
        (
            {"addresses": ["10.0.0.1"], "hosts": ["*.example"], "resolution": "DYNAMIC_DNS"},
            "spec.addresses: resolution DYNAMIC_DNS has none; remove them",
        ),
        (
            {"endpoints": [ENDPOINT], "workloadSelector": {"labels": {"a": "b"}}},
            "spec.endpoints: endpoints and workloadSelector exclude each other; keep one",
        ),
        ({"endpoints": [ENDPOINT], "resolution": "NONE"}, "spec.endpoints: resolution NONE has none"),
        (
            {"endpoints": [ENDPOINT, {"address": "db.example"}]},
            "spec.endpoints[1].address: db.example is no address; for a name use resolution DNS",
        ),
        (
            {"endpoints": [{**ENDPOINT, "ports": {"http": 1, "web": 2}}]},
            "spec.endpoints[0].ports.web: no port of the ServiceEntry has this name",
        ),
        (
            {"hosts": ["*.example"], "resolution": "DNS"},
            "spec.hosts: *.example cannot be resolved; give endpoints, or use DYNAMIC_DNS",
        ),
        ({"resolution": "static"}, "spec.resolution: Invalid enum value 'static'"),
        ({"resolutoin": "STATIC"}, "spec: unknown field resolutoin; correct it, or remove it"),
        ({"ports": [*PORTS, {"number": 80, "name": "b"}]}, "spec.ports: number 80 is used twice"),
        ({"ports": [*PORTS, {"number": 81, "name": "http"}]}, "spec.ports: name http is used twice"),
        ({"ports": [{"number": 0, "name": "a"}]}, "spec.ports[0].number: Expected int >= 1 (found 0)"),
        ({"exportTo": [".", "*"]}, "spec.exportTo[1]: * means all namespaces; it stands alone"),
        (
            {"workloadSelector": {"labels": {"app": "db-*"}}},
            "spec.workloadSelector.labels.app: app=db-* has a",
        ),
    ],
)
def test_a_service_entry_is_refused(spec: dict[str, Any], reason: str) -> None:
    spec = {"hosts": ["api.example"], "ports": PORTS, "resolution": "STATIC", **spec}
    assert refusal("ServiceEntry", spec).startswith(reason)


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
    ("spec", "reason"),
    [
        ({"address": "unix:///run/x"}, "spec.address: a Unix socket cannot be an endpoint; give an address"),
        ({}, "spec: address is needed, or the network whose gateway leads there"),
        ({"address": "a_b"}, "spec.address: 'a_b' is no address and no DNS name"),
        ({**ENDPOINT, "ports": {"a": 1, "b": 0}}, "spec.ports.b: 0 is no port number (1 to 65535)"),
        ({**ENDPOINT, "ports": {"a": 1, "b": "2"}}, "spec.ports.b: Expected int, got str (found '2')"),
        ({**ENDPOINT, "weight": -1}, "spec.weight: Expected int >= 0 (found -1)"),
        ({**ENDPOINT, "labels": {"a": "b c"}}, "spec.labels.a: 'b c' cannot be a label's value"),
    ],
)
def test_a_workload_entry_is_refused(spec: dict[str, Any], reason: str) -> None:
    assert refusal("WorkloadEntry", spec).startswith(reason)


def test_a_spec_is_needed() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `spec`"):
        make("WorkloadEntry", "vm")
