"""Pods of the node, as namespaces in which the tunnel listens, and connections of theirs that it meets."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from agent.node.netns import NetnsFd
from agent.zds.server import ZdsServer
from agent.zds.tunnel import Local
from bench.scale import cluster
from bench.scale.cluster import Size

PODS = 10
_TUNNEL = 15001  # its port in a pod; without a redirection that is where a connection goes


@contextmanager
def namespaces(count: int = PODS) -> Iterator[list[NetnsFd]]:
    """Network namespaces for the pods, gone afterwards."""
    names = [f"wt-scale-{os.getpid()}-{number}" for number in range(count)]
    made: list[NetnsFd] = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            made.append(NetnsFd.open(Path("/run/netns") / name))
        yield made
    finally:
        for netns in made:
            netns.close()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def announced(path: Path, size: Size, spaces: Sequence[NetnsFd]) -> AsyncIterator[None]:
    """Tells a tunnel, at this socket, of the first pods that the cluster has on the first node."""

    async def trust(_: int) -> None:
        """Nothing is redirected."""

    server = ZdsServer(path, trust)
    for number, netns in enumerate(spaces):
        metadata = cluster.pod(size, number * size.nodes)["metadata"]
        account = cluster.app_name(number * size.nodes % size.services)
        await server.add(Local(metadata["uid"], metadata["name"], metadata["namespace"], account, netns))
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def meet(spaces: Sequence[NetnsFd], addresses: Sequence[str]) -> None:
    """Each pod connects to its share of these addresses; the tunnel learns what is there, and refuses."""
    shares = [addresses[number :: len(spaces)] for number in range(len(spaces))]
    dials = (asyncio.to_thread(_dial, netns, share) for netns, share in zip(spaces, shares, strict=True))
    await asyncio.gather(*dials)


def _dial(netns: NetnsFd, addresses: Sequence[str]) -> None:
    lines = "".join(f"address replace {address}/32 dev lo\n" for address in addresses)
    netns.run(partial(subprocess.run, ["ip", "-batch", "-"], input=lines.encode(), check=True))
    for address in addresses:
        # It is refused, as it must be: the service has no such port.
        with suppress(ConnectionResetError), netns.run(partial(_connect, address)) as connection:
            connection.recv(1)


def _connect(address: str) -> socket.socket:
    return socket.create_connection((address, _TUNNEL), 10)
