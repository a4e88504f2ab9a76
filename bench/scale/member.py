"""One real node of a cluster whose configuration `warren discovery` tells: what its two processes hold."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.cpu import memory, together
from bench.scale import cluster, node, pods
from bench.scale.api import Api
from bench.scale.cluster import Object, Size
from bench.scale.node import Place, Process
from bench.scale.replica import ROOT, service_ip
from tests.support.ports import free_port

PODS = 100  # of the node
MET = 300  # services that they talk to, with all endpoints of each
_READY = 60.0  # seconds
_CALM = 2.0  # seconds: what went before is over


class NodeMemory(NamedTuple):
    """In MB of 10^6 bytes, as a DaemonSet runs them: the tunnel with a keeper of its listeners.

    agent_mb, tunnel_mb: what two processes share counts half in each, as in Pss of proc(5); node_mb: both, as
    if they were alone on the machine.
    """

    agent_mb: float = 0.0
    tunnel_mb: float = 0.0
    node_mb: float = 0.0


async def node_memory(folder: Path, size: Size, discovery: str) -> NodeMemory:
    """Of the cluster's first node, once its pods have talked to `MET` services. Raises BenchError."""
    with node.own_server(folder) as server, node.place(folder, server) as at:
        async with Api.connect(server) as api:
            for body in _read_by_an_agent(size):
                await api.create(body)
        with pods.namespaces(min(PODS, size.pods // size.nodes)) as spaces:
            async with pods.announced(zds := at.run / "pods.sock", size, spaces):
                agent = node.agent_in_pod(at, (free_port(), free_port()), *_discovery(at, folder, discovery))
                tunnel = node.tunnel(at, zds, True, "--keep-listeners")
                try:
                    await node.until_ready(tunnel, f"{len(spaces)} pods", _READY)
                    await asyncio.sleep(_CALM)
                    met = [service_ip(index) for index in range(0, size.services, -(-size.services // MET))]
                    await pods.meet(spaces, met)
                    await asyncio.sleep(_CALM)
                    return _memory(agent, tunnel)
                finally:
                    tunnel.stop()
                    agent.stop()


def _memory(agent: Process, tunnel: Process) -> NodeMemory:
    figures = memory(*agent.pids), memory(*tunnel.pids), together(*agent.pids, *tunnel.pids)
    return NodeMemory(*(figure / 1e6 for figure in figures))


def _discovery(at: Place, folder: Path, address: str) -> list[object]:
    token = at.run / "discovery-token"
    token.write_text("any")
    options = ("--discovery", f"https://{address}", "--discovery-root", folder / ROOT)
    return [*options, "--discovery-token", token]


def _read_by_an_agent(size: Size) -> Iterator[Object]:
    """Its own node's pods, with what they need, and the namespaces."""
    own = range(0, size.pods, size.nodes)
    yield from cluster.namespaces(size)
    for service in sorted({index % size.services for index in own}):
        yield cluster.service_account(service)
    for index in own:
        yield cluster.pod(size, index)
