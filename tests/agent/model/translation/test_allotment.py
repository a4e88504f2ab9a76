"""Addresses for hostnames that have none: the same for every agent, and everybody's own."""

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from agent.model.model import Model, allotted, apply
from agent.model.schema.istio.service_entry import ServiceEntry, ServiceEntryStatus
from agent.model.schema.objects import IPAddress, Key, Object, key_of
from agent.model.translation import allotment
from tests.agent.model.objects import addresses, changes, make, model_of, service_entry


def entry(host: str, age: int = 0, namespace: str = "default", **fields: Any) -> Object:
    created = f"2026-01-01T00:{age // 60:02}:{age % 60:02}Z"
    more = {"namespace": namespace, "creationTimestamp": created, **fields}
    return service_entry(host.replace(".", "-"), more, hosts=[host], resolution="DNS")


def given(model: Model) -> dict[str, tuple[IPAddress, ...]]:
    """The addresses of each service."""
    services = {name: one.service for name, one in addresses(model).items() if one.HasField("service")}
    return {
        name: tuple(ip_address(address.address) for address in one.addresses)
        for name, one in services.items()
    }


def few(monkeypatch: pytest.MonkeyPatch, places: int) -> None:
    """As many places in the ranges."""
    monkeypatch.setattr(allotment, "_LAST", places)


def test_one_of_each_family_at_the_same_place() -> None:
    [(v4, v6)] = given(model_of(entry("api.example"))).values()
    assert (v4 in allotment.V4, v6 in allotment.V6) == (True, True)
    assert int(v4) - int(allotment.V4[0]) == int(v6) - int(allotment.V6[0]) > 0


def test_a_hostname_is_found_by_its_address() -> None:
    model = model_of(entry("api.example"))
    [(v4, v6)] = given(model).values()
    aliases = {alias for those in model.resources.values() for one in those for alias in one.aliases}
    assert {f"/{v4}", f"/{v6}"} <= aliases


def test_whose_they_are_does_not_depend_on_the_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 60)
    items = [entry(f"h{number}.example", number) for number in range(5)]
    results = [given(model_of(*order)) for order in permutations(items)]
    assert all(result == results[0] for result in results)
    assert len({found[:1] for found in results[0].values() if found}) == 5


def test_an_older_one_keeps_its_place_and_a_younger_one_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 40)
    model, before = Model(), dict[str, tuple[IPAddress, ...]]()
    for number in range(12):
        model = model_of(entry(f"h{number}.example", number), base=model)
        after = given(model)
        assert {name: after[name] for name in before} == before
        before = after
    used = [found[0] for found in before.values() if found]
    assert len(set(used)) == len(used) > 5


def test_a_place_is_free_again_when_its_owner_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 1)
    first, second = entry("a.example", 0), entry("b.example", 1)
    model = model_of(first, second)
    found = given(model)
    assert (len(found["default/a.example"]), found["default/b.example"]) == (2, ())
    reason = "hosts: no address of 240.240.0.0/16 is left for b.example; give it one in addresses"
    assert dict(model.problems) == {key_of(second): reason}
    model, _ = apply(model, [(key_of(first), None)])
    assert [len(found) for found in given(model).values()] == [2]
    assert not model.problems


def test_what_a_status_says_is_not_given_to_others() -> None:
    place = given(model_of(entry("api.example")))["default/api.example"][0]
    status = {"addresses": [{"value": str(place), "host": "other.example"}]}
    model = model_of(entry("api.example", 0), entry("other.example", 1, status=status))
    found = given(model)
    assert found["default/other.example"] == (place,)
    assert found["default/api.example"][0] != place


@pytest.mark.parametrize(
    "spec",
    [
        {"resolution": "NONE"},
        {"addresses": ["10.97.0.1"]},
        {"hosts": ["*.example"], "endpoints": [{"address": "10.9.0.1"}]},
        {"exportTo": ["~"]},
        {"metadata": {"labels": {"networking.istio.io/enable-autoallocate-ip": "false"}}},
    ],
)
def test_who_gets_none(spec: dict[str, Any]) -> None:
    item = service_entry(**spec)
    model = model_of(item)
    assert not any(address in allotment.V4 for found in given(model).values() for address in found)
    assert allotted(model, key_of(item)) == ()


def written(model: Model, keys: Iterable[Key]) -> list[Object]:
    """As the reporter writes them."""
    result = list[Object]()
    for key in keys:
        item = model.store.objects[key]
        assert isinstance(item, ServiceEntry)
        if more := allotted(model, key):
            result.append(replace(item, status=ServiceEntryStatus((*item.status.addresses, *more))))
    return result


def test_what_the_reporter_writes_is_what_was_given() -> None:
    items = [entry(f"h{number}.example", number) for number in range(50)]
    model = model_of(*items, make("Namespace", "default"))
    before = given(model)
    told = written(model, map(key_of, items))
    assert len(told) == 50
    model, delta = apply(model, changes(*told))
    assert given(model) == before
    assert not delta
    assert written(model, map(key_of, items)) == []


def test_the_same_host_of_two_namespaces_is_two_services() -> None:
    found = given(model_of(entry("api.example"), entry("api.example", namespace="other")))
    assert found["default/api.example"] != found["other/api.example"]
