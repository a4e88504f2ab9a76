"""Many agents' streams at one replica of `warren discovery`: `python -m bench.scale.streams`.

The replica is a process of its own, with its model in memory instead of an API server. Each agent is a TLS
connection that asks, as a tunnel on demand does, for all policies, its node's pods and some services by name.
"""

import asyncio
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import click
import grpc
import msgspec

from agent.model.kinds import KINDS
from agent.model.mesh import Mesh
from agent.model.model import Change, Model, apply
from agent.model.resources import ADDRESS, AUTHORIZATION
from agent.model.schema.objects import key_of
from agent.xds.certificate import serving_certificate
from agent.xds.server import METHOD, SERVICE, XdsServer
from bench.scale import cluster
from bench.scale.cluster import Size
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node

SERVICES = 20  # that an agent's pods talk to
LOOPBACK = IPv4Address("127.0.0.1")


class Figures(NamedTuple):
    """Of a number of agents. Times in milliseconds from a change to its acknowledgement; CPU in percent."""

    agents: int
    connected_s: float
    replica_mb: float
    cpu: float
    changes: int
    told: int
    bytes_a_change: float
    p50: float
    p99: float


@click.command(context_settings={"show_default": True})
@click.option("--agents", default="10,100,1000", help="How many, one round for each.")
@click.option("--pods", type=int, default=50_000)
@click.option("--rate", type=float, default=100.0, help="Pod changes per second.")
@click.option("--seconds", type=float, default=20.0)
def main(*, agents: str, pods: int, rate: float, seconds: float) -> None:
    """Print a line of figures for each number of agents."""
    size = Size(services=pods // 10, pods=pods)
    click.echo("| " + " | ".join(Figures._fields) + " |")
    click.echo("|" + " --- |" * len(Figures._fields))
    for count in map(int, agents.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            figures = asyncio.run(measured(Path(folder), size, count, rate, seconds))
        click.echo("| " + " | ".join(f"{value:,.1f}" for value in figures) + " |")


async def measured(folder: Path, size: Size, count: int, rate: float, seconds: float) -> Figures:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=replica, args=(folder, size, theirs))
    child.start()
    try:
        port = await asyncio.to_thread(ours.recv)
        began = time.monotonic()
        root = (folder / "xds-root.pem").read_bytes()
        agents = [Agent(f"127.0.0.1:{port}", root, size, number) for number in range(count)]
        tasks = [asyncio.create_task(agent.run()) for agent in agents]
        await asyncio.gather(*(agent.ready.wait() for agent in agents))
        connected = time.monotonic() - began
        for agent in agents:
            agent.received = agent.responses = 0
        ours.send((rate, seconds))
        done = await asyncio.to_thread(ours.recv)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        child.kill()
    received = sum(agent.received for agent in agents)
    told = sum(agent.responses for agent in agents)
    return Figures(count, connected, done["mb"], done["cpu"], done["changes"], told,
                   received / max(done["changes"], 1), done["p50"], done["p99"])  # fmt: skip


class Agent:
    """One stream: `ready` when it has its first answers; bytes and responses that it received."""

    def __init__(self, target: str, root: bytes, size: Size, number: int) -> None:
        self.ready, self.received, self.responses = asyncio.Event(), 0, 0
        self._target, self._root, self._node = target, root, cluster.node_name(number)
        chosen = random.Random(number)
        own = range(number, size.pods, size.nodes)
        talked = [chosen.randrange(size.services) for _ in range(SERVICES)]
        self._names = [*(_pod_name(size, index) for index in own), *map(_service_name, talked)]

    async def run(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        credentials = grpc.ssl_channel_credentials(self._root)
        async with grpc.aio.secure_channel(self._target, credentials, options=options) as channel:
            call = channel.stream_stream(
                f"/{SERVICE}/{METHOD}",
                request_serializer=DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=DeltaDiscoveryResponse.FromString,
            )()
            node = Node(id=self._node, client_features=["warren.aliases"])
            await call.write(DeltaDiscoveryRequest(node=node, type_url=AUTHORIZATION))
            await call.write(
                DeltaDiscoveryRequest(node=node, type_url=ADDRESS, resource_names_subscribe=self._names)
            )
            async for response in call:
                self.received += response.ByteSize()
                self.responses += 1
                if response.type_url == ADDRESS:
                    self.ready.set()
                answer = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
                await call.write(answer)


def replica(folder: Path, size: Size, orders: Connection) -> None:
    asyncio.run(_replica(folder, size, orders))


async def _replica(folder: Path, size: Size, orders: Connection) -> None:
    model, delta = apply(Model(Mesh()), objects(size))
    server = XdsServer()
    server.update(delta, model.version)
    credentials = grpc.ssl_server_credentials([serving_certificate(folder, LOOPBACK)])
    orders.send(await server.start_remote((LOOPBACK, 0), credentials, _anyone))
    rate, seconds = await asyncio.to_thread(orders.recv)
    took: list[float] = []
    server.convergence.observe = took.append  # type: ignore[method-assign,assignment]
    began, cpu, changes = time.monotonic(), _cpu(), 0
    chosen = random.Random(7)
    while (now := time.monotonic() - began) < seconds:
        due = int(now * rate) - changes  # as many as a source would tell at once
        if due > 0:
            told = [_change(size, chosen.randrange(size.pods), changes + n) for n in range(due)]
            since = time.monotonic()
            model, delta = await asyncio.to_thread(apply, model, told)
            server.update(delta, model.version, since=since)
            changes += due
        await asyncio.sleep(0.05)
    used = (_cpu() - cpu) / (time.monotonic() - began)
    await asyncio.sleep(1.0)
    took.sort()
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = {name: _part(took, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    orders.send({"mb": mb, "cpu": 100 * used, "changes": changes, **times})
    await server.stop()


def _part(took: list[float], share: float) -> float:
    """Milliseconds; of sorted seconds."""
    return 1000 * took[int((len(took) - 1) * share)] if took else 0.0


async def _anyone(_: str | None, __: str) -> str:
    return ""


def objects(size: Size) -> Iterator[Change]:
    for body in (*cluster.namespaces(size), *cluster.nodes(size), *cluster.services(size)):
        yield _read(body)
    for body in cluster.pods(size):
        yield _read(body)


def _change(size: Size, index: int, number: int) -> Change:
    """A pod of which something is different that tunnels are told."""
    body = cluster.pod(size, index)
    body["metadata"]["labels"]["version"] = f"v{number}"
    return _read(body)


def _read(body: dict[str, Any]) -> Change:
    kind = KINDS[body["kind"]]
    assert kind.struct
    item = msgspec.convert(body, kind.struct)
    return key_of(item), item


def _pod_name(size: Size, index: int) -> str:
    metadata = cluster.pod(size, index)["metadata"]
    return f"Kubernetes//Pod/{metadata['namespace']}/{metadata['name']}"


def _service_name(index: int) -> str:
    namespace = cluster.namespace_of(index)
    return f"{namespace}/{cluster.app_name(index)}.{namespace}.svc.cluster.local"


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
