"""A gateway's own agent: what it serves at its socket, out of a folder of manifests."""

import asyncio
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import yaml

from agent.gateway import GatewayAgent, Settings
from agent.model.mesh import GATEWAY, Mesh
from agent.model.resources import ADDRESS, LISTENERS
from protocols import routes_pb2 as pb
from tests.agent.xds.client import Client
from tests.support.certificates import Authority
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


async def test_it_serves_the_mesh_and_the_listeners_with_their_certificates(tmp_path: Path) -> None:
    source, socket = tmp_path / "source", tmp_path / "xds.sock"
    source.mkdir()
    shop = Authority(tmp_path / "authority", "outside").issue("shop.example.com")
    keys = {"tls.crt": shop.chain.read_bytes(), "tls.key": shop.key.read_bytes()}
    secret = {**SECRET, "data": {name: b64encode(key).decode() for name, key in keys.items()}}
    (source / "all.yaml").write_text(OBJECTS + "---\n" + yaml.safe_dump(secret))
    agent = GatewayAgent(Settings(source, socket, "edge", "door", Mesh()))
    running = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while not socket.exists():
                assert not running.done(), running.exception()
                await asyncio.sleep(0.01)
        async with Client(f"unix:{socket}") as client:
            await client.ask(ADDRESS)
            told = await client.hear()
            assert [one.name for one in told.resources] == ["Kubernetes//Pod/edge/door"]
            await client.acknowledge(told)
            await client.ask(LISTENERS, "edge/door")
            [resource] = (await client.hear()).resources
            [listener] = pb.GatewayListeners.FromString(resource.resource.value).listeners
            [server] = listener.servers
            assert server.tls.certificates[0].private_key == keys["tls.key"]
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
