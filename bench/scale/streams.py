"""Many agents' streams at one replica of `warren discovery`: `python -m bench.scale.streams`.

Each agent is a TLS connection that asks, as a tunnel on demand does, for all policies, its node's pods and
some services by name. Beside them is one real node, an agent and a tunnel, whose pods talk to a few hundred
services.
"""

import asyncio
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import click
import grpc

from agent.model.resources import ADDRESS, AUTHORIZATION
from agent.xds.server import METHOD, SERVICE
from bench.scale import cluster, replica
from bench.scale.cluster import Size
from bench.scale.member import NodeMemory, node_memory
from bench.scale.replica import LOOPBACK, ROOT, Done, Order, Serving
from protocols.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node

SERVICES = 20  # that an agent's pods talk to
PODS_A_SERVICE = 10
PODS_A_NODE = 100  # at most: more nodes then
NODES = 1_000


class Figures(NamedTuple):
    """Of a number of agents.

    read_cpu_s, peak_mb: what reading the cluster costs a replica; replica_mb: resident afterwards;
    connected_s: until each agent has its first answers; cpu: of the replica, in percent of one core;
    p50, p99: milliseconds from a change to its acknowledgement; told: responses; agent_mb, tunnel_mb,
    node_mb: see `NodeMemory`.
    """

    pods: int
    agents: int
    read_cpu_s: float
    peak_mb: float
    connected_s: float
    replica_mb: float
    cpu: float
    changes: int
    told: int
    bytes_a_change: float
    p50: float
    p99: float
    agent_mb: float
    tunnel_mb: float
    node_mb: float


@click.command(context_settings={"show_default": True})
@click.option("--agents", default="10,100,1000", help="How many, one round for each.")
@click.option("--pods", default="50000", help="How many, one replica for each.")
@click.option("--rate", type=float, default=100.0, help="Pod changes per second.")
@click.option("--seconds", type=float, default=20.0)
@click.option("--node/--no-node", default=True, help="A real agent and tunnel, too: needs root.")
def main(*, agents: str, pods: str, rate: float, seconds: float, node: bool) -> None:
    """Print a line of figures for each number of pods and of agents."""
    click.echo("| " + " | ".join(Figures._fields) + " |")
    click.echo("|" + " --- |" * len(Figures._fields))
    for count in map(int, pods.split(",")):
        size = Size(count // PODS_A_SERVICE, count, max(NODES, count // PODS_A_NODE))
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(
                measure(Path(folder), size, [*map(int, agents.split(","))], Order(rate, seconds), node)
            )


class Running(NamedTuple):
    """A replica, which takes orders, and what a real node holds beside it."""

    folder: Path
    size: Size
    serving: Serving
    orders: Connection
    node: NodeMemory


async def measure(folder: Path, size: Size, agents: list[int], order: Order, real: bool) -> None:
    with replica_of(folder, size) as orders:
        serving = await asyncio.to_thread(orders.recv)
        node = await node_memory(folder, size, f"{LOOPBACK}:{serving.port}") if real else NodeMemory()
        for count in agents:
            figures = await measured(Running(folder, size, serving, orders, node), count, order)
            click.echo("| " + " | ".join(f"{value:,.1f}".removesuffix(".0") for value in figures) + " |")


@contextmanager
def replica_of(folder: Path, size: Size) -> Iterator[Connection]:
    """A process that says what it serves, and takes orders."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=replica.run, args=(folder, size, theirs))
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        child.kill()
        child.join()


async def measured(running: Running, count: int, order: Order) -> Figures:
    """One round, of so many agents."""
    folder, size, serving, orders, node = running
    began, root = time.monotonic(), (folder / ROOT).read_bytes()
    agents = [Agent(f"{LOOPBACK}:{serving.port}", root, size, number) for number in range(count)]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    try:
        await asyncio.gather(*(agent.ready.wait() for agent in agents))
        connected = time.monotonic() - began
        for agent in agents:
            agent.received = agent.responses = 0
        orders.send(order)
        done: Done = await asyncio.to_thread(orders.recv)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    received, told = sum(agent.received for agent in agents), sum(agent.responses for agent in agents)
    return Figures(
        size.pods,
        count,
        serving.synced_cpu,
        serving.peak_mb,
        connected,
        done.mb,
        done.cpu,
        done.changes,
        told,
        received / max(done.changes, 1),
        done.p50,
        done.p99,
        *node,
    )


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


def _pod_name(size: Size, index: int) -> str:
    metadata = cluster.pod(size, index)["metadata"]
    return f"Kubernetes//Pod/{metadata['namespace']}/{metadata['name']}"


def _service_name(index: int) -> str:
    namespace = cluster.namespace_of(index)
    return f"{namespace}/{cluster.app_name(index)}.{namespace}.svc.cluster.local"


if __name__ == "__main__":
    main()
