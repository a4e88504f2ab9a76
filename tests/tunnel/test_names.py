"""The names of endpoints: what name servers answer is in force, and stays when they fail."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from agent.node.netns import NetnsFd
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from protocols.workload_pb2 import NAMESPACE, Address, PortList, Service, Workload
from tests.support.eventually import eventually
from tests.support.nameserver import NameServer, serving
from tunnel import names
from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.names import Lookup, LookupFailed, Names

SERVER = "127.77.0.1"
URL = "type.googleapis.com/istio.workload.Address"
NAME = "api.example"


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with serving(SERVER) as server:
        yield server


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers hold for less than a second."""
    for name in ("_LEAST", "_FIRST_RETRY", "_LAST_RETRY"):
        monkeypatch.setattr(names, name, 0.05)
    monkeypatch.setattr(names, "_PATIENCE", 1.0)


def put(core: Core, *hosts: str, removed: tuple[str, ...] = (), private: bool = False) -> None:
    """Services whose endpoints are their own hostnames."""
    push = DeltaDiscoveryResponse(type_url=URL, removed_resources=removed)
    for host in hosts:
        service = Service(name="api", namespace="shop", hostname=host)
        service.visibility = NAMESPACE if private else service.visibility
        workload = Workload(uid=f"uid/{host}", name="api", namespace="shop", hostname=host)
        workload.services[f"shop/{host}"].CopyFrom(PortList())
        for name, address in (
            (f"shop/{host}", Address(service=service)),
            (workload.uid, Address(workload=workload)),
        ):
            body = Any(type_url=URL, value=address.SerializeToString())
            push.resources.add(name=name, resource=body)
    assert core.apply(push.SerializeToString(), []).rejected == []


def in_force(core: Core) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(core.dump())["names"]
    return found


@asynccontextmanager
async def resolving(core: Core, netns: NetnsFd, counters: Counters) -> AsyncIterator[Names]:
    """For a pod of the namespace `default`."""
    core.add_pod("uid", netns.fileno(), "client", "default", "client", "cluster.local")
    it = Names(core, (SERVER,), counters)
    task = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        task.cancel()


async def test_both_families_are_in_force(
    core: Core, netns: NetnsFd, counters: Counters, server: NameServer
) -> None:
    server.records = {NAME: ["other.example"], "other.example": ["192.0.2.1", "2001:db8::1", "192.0.2.2"]}
    put(core, NAME)
    async with resolving(core, netns, counters):
        await eventually(lambda: in_force(core))
        assert in_force(core) == {NAME: ["192.0.2.1", "192.0.2.2", "2001:db8::1"]}
        server.records = {NAME: ["192.0.2.3"]}
        await eventually(lambda: in_force(core) == {NAME: ["192.0.2.3"]})
    assert {one.split()[1] for one in server.asked} == {"A", "AAAA"}
    assert counters.lookups.get("OK") >= 2


async def test_an_answer_that_is_cut_off_is_asked_for_over_tcp(server: NameServer) -> None:
    server.records, server.truncated = {NAME: [f"192.0.2.{number}" for number in range(1, 200)]}, True
    answer = await Lookup((SERVER,)).addresses(NAME)
    assert len(answer.addresses) == 199


async def test_only_names_that_pods_of_this_node_may_use_are_asked_for(
    core: Core, netns: NetnsFd, counters: Counters, server: NameServer
) -> None:
    server.records = {NAME: ["192.0.2.1"], "hidden.example": ["192.0.2.2"]}
    put(core, "hidden.example", private=True)
    put(core, NAME)
    async with resolving(core, netns, counters) as it:
        await eventually(lambda: in_force(core))
        assert list(in_force(core)) == [NAME]
        put(core, removed=(f"uid/{NAME}", f"shop/{NAME}"))
        it.changed()
        await eventually(lambda: in_force(core) == {})
    assert not any("hidden" in one for one in server.asked)


@pytest.mark.parametrize("fault", ["broken", "silent"])
async def test_the_last_good_answer_stays_while_servers_fail(
    core: Core, netns: NetnsFd, counters: Counters, server: NameServer, fault: str
) -> None:
    server.records = {NAME: ["192.0.2.1"]}
    put(core, NAME)
    async with resolving(core, netns, counters) as it:
        await eventually(lambda: in_force(core))
        setattr(server, fault, True)
        await eventually(lambda: it.problems)
        assert it.problems[0].startswith(f"name {NAME} does not resolve: ")
        assert in_force(core) == {NAME: ["192.0.2.1"]}
        assert counters.lookups.get("FAILED") >= 1
        setattr(server, fault, False)
        await eventually(lambda: not it.problems)


@pytest.mark.parametrize("records", [{}, {NAME: []}])
async def test_that_there_is_no_address_is_an_answer(
    core: Core, netns: NetnsFd, counters: Counters, server: NameServer, records: dict[str, list[str]]
) -> None:
    server.records = {NAME: ["192.0.2.1"]}
    put(core, NAME)
    async with resolving(core, netns, counters) as it:
        await eventually(lambda: in_force(core) == {NAME: ["192.0.2.1"]})
        server.records = records
        await eventually(lambda: in_force(core) == {NAME: []})
        await eventually(lambda: it.problems == [f"name {NAME} does not resolve: it has no address"])
    assert counters.lookups.get("EMPTY") >= 1


async def test_resolvers_are_those_of_the_file_as_it_is_now(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(names, "RESOLV_CONF", str(file))
    monkeypatch.setattr(names, "_LOOK", 0.0)
    server.records = {NAME: ["192.0.2.1"]}
    lookup = Lookup(())
    with pytest.raises(LookupFailed):
        await lookup.addresses(NAME)
    file.write_text("nameserver 127.77.0.2\n")  # where nobody is
    with pytest.raises(LookupFailed):
        await lookup.addresses(NAME)
    file.write_text(f"nameserver {SERVER}\nsearch svc.cluster.local\noptions ndots:5\n")
    assert [str(one) for one in (await lookup.addresses(NAME)).addresses] == ["192.0.2.1"]
    assert {one.split()[0] for one in server.asked} == {NAME}


async def test_one_family_is_enough(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.records = {NAME: ["192.0.2.1"]}
    whole = server.answer

    def without_aaaa(query: object, truncated: bool) -> object:
        server.broken = "AAAA" in str(query)
        return whole(query, truncated)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "answer", without_aaaa)
    assert [str(one) for one in (await Lookup((SERVER,)).addresses(NAME)).addresses] == ["192.0.2.1"]
