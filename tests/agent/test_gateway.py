"""A gateway's own agent: what it serves at its socket, out of a folder of manifests."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from agent.fetching import Reach
from agent.gateway import GatewayAgent, Settings
from agent.model.mesh import GATEWAY, Mesh
from agent.model.resources import ADDRESS, AUTHORIZATION, LISTENERS
from protocols import routes_pb2 as pb
from protocols.security_pb2 import Authorization
from tests.agent.xds.client import Client
from tests.support import tokens
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.wait import PATIENCE

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "edge"}}
OBJECTS = f"""
apiVersion: v1
kind: Pod
metadata: {{name: door, namespace: edge, labels: {{{GATEWAY}: "true"}}}}
spec: {{serviceAccountName: door, nodeName: n1}}
status: {{phase: Running, podIP: 10.0.0.1}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: shop}}
spec:
  servers:
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: [shop.example.com]
    tls: {{mode: SIMPLE, credentialName: shop}}
"""


@asynccontextmanager
async def serving(source: Path, socket: Path, reach: Reach = "private") -> AsyncIterator[Client]:
    """An agent's client, once it answers."""
    agent = GatewayAgent(Settings(source, socket, "edge", "door", Mesh(), jwks_reach=reach))
    running = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while not socket.exists():  # noqa: ASYNC240  (a look)
                assert not running.done(), running.exception()
                await asyncio.sleep(0.01)
        async with Client(f"unix:{socket}") as client:
            yield client
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_it_serves_the_mesh_and_the_listeners_with_their_certificates(tmp_path: Path) -> None:
    source, socket = tmp_path / "source", tmp_path / "xds.sock"
    source.mkdir()
    shop = Authority(tmp_path / "authority", "outside").issue("shop.example.com")
    keys = {"tls.crt": shop.chain.read_bytes(), "tls.key": shop.key.read_bytes()}
    secret = {**SECRET, "data": {name: b64encode(key).decode() for name, key in keys.items()}}
    (source / "all.yaml").write_text(OBJECTS + "---\n" + yaml.safe_dump(secret))
    async with serving(source, socket) as client:
        await client.ask(ADDRESS)
        told = await client.hear()
        assert [one.name for one in told.resources] == ["Kubernetes//Pod/edge/door"]
        await client.acknowledge(told)
        await client.ask(LISTENERS, "edge/door")
        [resource] = (await client.hear()).resources
        [listener] = pb.GatewayListeners.FromString(resource.resource.value).listeners
        [server] = listener.servers
        assert server.tls.certificates[0].private_key == keys["tls.key"]


@pytest.mark.parametrize("reach", ["any", "private"])
async def test_it_fetches_key_sets_as_far_as_it_may(tmp_path: Path, reach: Reach) -> None:
    """The gateway has them with the policy; from where it may not fetch there are none: no token is valid."""
    source, issuer = tmp_path / "source", tokens.Issuer("issuer", "key")
    source.mkdir()
    port = free_port()
    tokens.serve(port, issuer.key_set)
    rule = {"issuer": issuer.name, "jwksUri": f"http://127.0.0.1:{port}/keys"}
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "edge"},
        "spec": {"jwtRules": [rule]},
    }
    (source / "all.yaml").write_text(yaml.safe_dump(policy))
    try:
        async with serving(source, tmp_path / "xds.sock", reach) as client:
            await client.ask(AUTHORIZATION)
            [told] = (await client.hear()).resources
            [read] = Authorization.FromString(told.resource.value).jwt_rules
            assert read.issuer == issuer.name
            assert json.loads(read.jwks or '""') == (json.loads(issuer.key_set) if reach == "any" else "")
    finally:
        tokens.stop(port)
