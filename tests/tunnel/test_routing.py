"""What a tunnel says of routes over HTTP, with a real core that serves a pod."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any

import pytest_asyncio
from google.protobuf.any_pb2 import Any as AnyMessage

from agent.node.netns import NetnsFd
from protocols import routes_pb2 as sent
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from protocols.web import serve
from protocols.workload_pb2 import HBONE, Address, NetworkAddress, Port, PortList, Service, Workload
from tunnel import routing
from tunnel._core import Core
from tunnel.xds import ADDRESS, ROUTES

HOST = "reviews.demo.svc.cluster.local"
KEY = f"demo/{HOST}"


def push(type_url: str, name: str, body: bytes) -> bytes:
    response = DeltaDiscoveryResponse(type_url=type_url)
    response.resources.add(name=name, version="1", resource=AnyMessage(type_url=type_url, value=body))
    return response.SerializeToString()


def workload(name: str, address: int, **labels: str) -> bytes:
    message = Workload(
        uid=f"Kubernetes//Pod/demo/{name}",
        name=name,
        namespace="demo",
        node="node1",
        addresses=[bytes([10, 0, 0, address])],
        tunnel_protocol=HBONE,
        labels=labels,
        services={KEY: PortList()} if labels else {},
    )
    return push(ADDRESS, message.uid, Address(workload=message).SerializeToString())


def service() -> bytes:
    message = Service(
        name="reviews",
        namespace="demo",
        hostname=HOST,
        addresses=[NetworkAddress(address=bytes([10, 1, 0, 1]))],
        ports=[Port(service_port=9080, target_port=9080)],
    )
    return push(ADDRESS, KEY, Address(service=message).SerializeToString())


def routes(*rules: sent.HttpRule) -> bytes:
    """Jason's requests to v2, all others to v1."""
    destinations = [
        sent.Destination(
            namespace="demo", hostname=HOST, port=9080, subset=version, labels={"version": version}
        )
        for version in ("v1", "v2")
    ]
    scope = sent.Scope(http=rules, destinations=destinations)
    port = sent.PortRoutes(port=9080, protocol=sent.HTTP, scopes=[scope])
    message = sent.ServiceRoutes(namespace="demo", hostname=HOST, ports=[port])
    return push(ROUTES, KEY, message.SerializeToString())


def rule(place: int, *matches: sent.HttpMatch) -> sent.HttpRule:
    forward = sent.Forward(destinations=[sent.Weighted(destination=place)])
    origin = "VirtualService demo/reviews"
    return sent.HttpRule(name=f"r{place}", origin=origin, matches=matches, forward=forward)


def jason() -> sent.HttpMatch:
    return sent.HttpMatch(headers=[sent.NamedMatch(name="end-user", value=sent.StringMatch(exact="jason"))])


@pytest_asyncio.fixture
async def admin(core: Core, netns: NetnsFd) -> AsyncIterator[int]:
    for one in (
        service(),
        workload("web", 1),
        workload("one", 2, version="v1"),
        workload("two", 3, version="v2"),
        routes(rule(1, jason()), rule(0)),
    ):
        assert core.apply(one, []).rejected == []
    descriptor = os.dup(netns.fileno())
    core.add_pod("uid", descriptor, "web", "demo", "default", "cluster.local")
    os.close(descriptor)
    server = await serve(routing.routes(core), "127.0.0.1", 0, largest_body=1024)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def ask(admin: int, method: str, path: str, given: object = None) -> tuple[int, Any]:
    """Status and body: what JSON says, or the text of an error."""

    def asked() -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", admin, timeout=5)
        try:
            connection.request(method, path, None if given is None else json.dumps(given))
            response = connection.getresponse()
            body = response.read().decode()
            return response.status, json.loads(body) if response.status == 200 else body
        finally:
            connection.close()

    return await asyncio.to_thread(asked)


async def explained(admin: int, url: str, **headers: str) -> Any:
    question = {"from": "demo/web", "method": "GET", "url": url, "headers": [*headers.items()]}
    return (await ask(admin, "POST", "/routes/explain", question))[1]


async def test_the_routes_in_force(core: Core, admin: int) -> None:
    for path in ("/routes", f"/routes?service={KEY}", "/routes?service=demo/reviews"):
        status, [told] = await ask(admin, "GET", path)
        assert (status, told["service"]) == (200, KEY), path
    [port] = told["ports"]
    [scope] = port["scopes"]
    assert (port["port"], port["protocol"], scope["unmatched"]) == (9080, "HTTP", "NOT_FOUND")
    assert [one["matches"] for one in scope["http"]] == [[["header end-user is 'jason'"]], []]
    assert [one["subset"] for one in scope["destinations"]] == ["v1", "v2"]
    status, text = await ask(admin, "GET", "/routes?service=nobody")
    assert (status, text) == (400, "no Service or ServiceEntry nobody is known to this node's tunnel\n")


async def test_explain(admin: int) -> None:
    told = await explained(admin, "http://reviews:9080/x")
    assert (told["from"], told["service"], told["routes"]["rule"]["place"]) == ("demo/web", KEY, 1)
    [earlier] = told["routes"]["earlier"]
    assert earlier["mismatches"] == ["header end-user is missing"]
    [destination] = told["routes"]["destinations"]
    assert [one["pod"] for one in destination["endpoints"]] == ["demo/one"]
    told = await explained(admin, "http://10.1.0.1:9080/x", **{"end-user": "jason"})
    assert told["routes"]["destinations"][0]["endpoints"][0]["address"] == "10.0.0.3:9080"


async def test_what_is_asked_wrongly_is_answered(admin: int) -> None:
    whole = {"from": "demo/web", "method": "GET", "url": "http://reviews:9080/"}
    for change, text in (
        ({"url": "reviews"}, '"reviews" is no URL'),
        ({"from": "web"}, "web is no pod of the mesh on this node"),
        ({"headers": [["a b", "c"]]}, '"a b" is no name of a header'),
        ({"method": "G T"}, '"G T" is no method'),
        ({"method": 7}, "argument 'method': 'int' object"),
    ):
        status, said = await ask(admin, "POST", "/routes/explain", whole | change)
        assert (status, said[: len(text)]) == (400, text), change


async def test_a_bad_resource_is_refused_by_name_and_the_last_good_one_stays(core: Core, admin: int) -> None:
    pattern = sent.HttpMatch(path=sent.PathMatch(regex="("))
    [(name, reason)] = core.apply(routes(rule(0, pattern)), []).rejected
    assert name == KEY
    assert "http[0]: VirtualService demo/reviews r0: matches[0]: path: regular expression '('" in reason
    assert (await explained(admin, "http://reviews:9080/"))["routes"]["rule"]["route"] == "r0"
