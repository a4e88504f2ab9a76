"""What a tunnel says of policies over HTTP, with a real core that serves a pod."""

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest_asyncio
from google.protobuf.any_pb2 import Any as AnyMessage

from agent.node.netns import NetnsFd
from protocols.admin import Explanation, PolicyCount
from protocols.discovery_pb2 import DeltaDiscoveryResponse
from protocols.security_pb2 import Action, Authorization, Clause, Match, Rule, Scope
from protocols.web import serve
from protocols.workload_pb2 import HBONE, Address, Workload
from tunnel import authorization
from tunnel._core import Core
from tunnel.xds import ADDRESS, AUTHORIZATION


def push(type_url: str, name: str, body: bytes) -> bytes:
    response = DeltaDiscoveryResponse(type_url=type_url)
    response.resources.add(name=name, version="1", resource=AnyMessage(type_url=type_url, value=body))
    return response.SerializeToString()


def deny(port: int, dry_run: bool = False) -> bytes:
    rule = Rule(clauses=[Clause(matches=[Match(destination_ports=[port])])])
    policy = Authorization(
        name="p", namespace="demo", scope=Scope.NAMESPACE, action=Action.DENY, rules=[rule], dry_run=dry_run
    )
    return push(AUTHORIZATION, "demo/p", policy.SerializeToString())


@pytest_asyncio.fixture
async def admin(core: Core, netns: NetnsFd) -> AsyncIterator[int]:
    workload = Workload(
        uid="Kubernetes//Pod/demo/web",
        name="web",
        namespace="demo",
        service_account="web",
        node="node1",
        addresses=[b"\x0a\x00\x00\x02"],
        tunnel_protocol=HBONE,
    )
    core.apply(push(ADDRESS, workload.uid, Address(workload=workload).SerializeToString()), [])
    core.apply(deny(80), [])
    descriptor = os.dup(netns.fileno())
    core.add_pod("uid", descriptor, "web", "demo", "web", "cluster.local")
    os.close(descriptor)
    server = await serve(authorization.routes(core), "127.0.0.1", 0, largest_body=1024)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def ask(
    admin: int, method: str, path: str, given: bytes | None = None, **query: Any
) -> tuple[int, str]:
    """Status and body."""

    def asked() -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", admin, timeout=5)
        try:
            connection.request(method, f"{path}?{urlencode(query)}", given)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(asked)


async def explained(admin: int, **query: Any) -> tuple[int, str]:
    return await ask(admin, "GET", "/authz/explain", **query)


async def test_explain(admin: int) -> None:
    who = {"from": "plain", "address": "10.0.0.9", "to": "demo/web"}
    status, body = await explained(admin, **who, port=80)
    said = json.loads(body)
    assert (status, said["source"]["address"], said["destination"]["address"]) == (
        200,
        "10.0.0.9",
        "10.0.0.2",
    )
    [one] = said["ports"]
    assert (one["port"], one["verdict"], one["policy"], one["rule"]) == (80, "policy_denied", "demo/p", 0)
    said = json.loads((await explained(admin, **who, port=81))[1])
    [unmet] = said["ports"][0]["policies"][0]["rules"][0]["unmet"]
    assert unmet == {"field": "ports", "found": "81", "negated": False, "values": ["80"], "more": 0}


async def test_what_is_answered_has_the_fields_that_the_command_line_reads(core: Core, admin: int) -> None:
    """All of them, and no others: what is left out on either side would be lost in silence."""
    who = {"from": "plain", "to": "demo/web", "port": 81}
    for kind, (_, body) in (
        (Explanation, await explained(admin, **who)),
        (list[PolicyCount], await ask(admin, "GET", "/authz/policies")),
    ):
        assert msgspec.to_builtins(msgspec.json.decode(body, type=kind)) == json.loads(body)


async def test_what_is_asked_wrongly_is_answered(admin: int) -> None:
    for query, text in (
        ({"from": "plain"}, "to is missing\n"),
        ({"from": "plain", "to": "web"}, "web is no pod or Service of the mesh on this node: pods are demo"),
        ({"from": "spiffe://x", "to": "demo/web"}, '"spiffe://x" is not of the form spiffe://'),
        ({"from": "plain", "to": "demo/web", "port": "x"}, "port 'x' is no number from 0 to 65535\n"),
        ({"from": "plain", "to": "demo/web", "port": 65536}, "port '65536' is no number"),
        ({"from": "plain", "to": "demo/web"}, "no Service leads to demo/web, so that no port of it is known"),
    ):
        status, body = await explained(admin, **query)
        assert (status, body[: len(text)]) == (400, text), query


async def test_check_takes_pushes_and_puts_none_in_force(core: Core, admin: int) -> None:
    before = core.dump()
    given = json.dumps([b64encode(deny(81)).decode()]).encode()
    assert await ask(admin, "POST", "/authz/check", given) == (200, "[]"), "no connection is open"
    said = json.loads((await explained(admin, **{"from": "plain", "to": "demo/web", "port": 81}))[1])
    assert (said["ports"][0]["verdict"], core.dump()) == ("allowed", before)


async def test_a_check_of_nonsense(admin: int) -> None:
    unknown = push(AUTHORIZATION, "demo/q", b"")
    for given in (b"{", b"[1]", b'["/w=="]', b'["!"]', json.dumps([b64encode(unknown).decode()]).encode()):
        status, body = await ask(admin, "POST", "/authz/check", given)
        assert status == 400, body


async def test_policies(core: Core, admin: int) -> None:
    core.apply(deny(80, dry_run=True), [])
    status, body = await ask(admin, "GET", "/authz/policies")
    assert status == 200
    assert json.loads(body) == [{"name": "demo/p", "action": "DENY", "dry_run": True, "verdicts": {}}]
