"""Addresses that hostnames get are written to the status of their ServiceEntry, beside what others wrote."""

from ipaddress import ip_address
from typing import Any

import pytest

from agent.kube import conditions
from agent.kube.client import Client
from agent.model.translation.allotment import V4, V6
from tests.agent.sources.test_reporter import cluster, following_model
from tests.support.bookinfo import collection
from tests.support.cluster import Cluster
from tests.support.custom import entry, post
from tests.support.eventually import eventually

__all__ = ["cluster"]
from tests.support.wait import PATIENCE

_TIME = PATIENCE
BOTH = {"hosts": ["a.example", "b.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}


def told(cluster: Cluster, item: Any) -> list[tuple[str, str]]:
    status = cluster.get(*collection(item), item["metadata"]["name"]).get("status", {})
    return [(one["host"], one["value"]) for one in status.get("addresses", [])]


async def test_each_hostname_without_addresses_gets_one_of_each_family(cluster: Cluster) -> None:
    several = entry("several", "a.example", **BOTH)
    post(cluster, several)
    async with following_model(cluster):
        await eventually(lambda: told(cluster, several), _TIME)
        addresses = told(cluster, several)
        assert [host for host, _ in addresses] == ["a.example", "a.example", "b.example", "b.example"]
        for (_, v4), (_, v6) in (addresses[:2], addresses[2:]):
            assert ip_address(v4) in V4
            assert ip_address(v6) in V6


@pytest.mark.parametrize("spec", [{"resolution": "NONE"}, {"addresses": ["10.97.0.1"]}])
async def test_nothing_is_written_of_others(cluster: Cluster, spec: dict[str, Any]) -> None:
    item, later = entry("given", "a.example", **spec), entry("later", "b.example")
    async with following_model(cluster):
        post(cluster, item)
        post(cluster, later)
        await eventually(lambda: told(cluster, later), _TIME)
        assert told(cluster, item) == []


async def test_what_another_controller_wrote_stays(cluster: Cluster) -> None:
    item = entry("mixed", "a.example", **BOTH)
    post(cluster, item)
    given = [{"host": "a.example", "value": "240.240.1.1"}]
    path = f"/{'/'.join(collection(item))}/{item['metadata']['name']}"
    conditions.update(Client.load(cluster.kubeconfig), path, "addresses", lambda former, generation: given)
    async with following_model(cluster):
        await eventually(lambda: len(told(cluster, item)) > 1, _TIME)
        assert told(cluster, item)[0] == ("a.example", "240.240.1.1")
        assert [host for host, _ in told(cluster, item)[1:]] == ["b.example", "b.example"]
