"""One way from a client to a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.pods import Pod

ECHO, HTTP, MIX, IPERF = 7000, 8080, 7004, 5201
"""Ports of the servers that run in every server pod."""
PORTS = (ECHO, HTTP, MIX, IPERF)
WORKERS = 2
"""Worker threads of every proxy."""


@dataclass(frozen=True)
class DataPath:
    """A client pod, a server pod, and the proxies (name and pid) that carry the traffic between them.

    `reach` gives the address at which the client finds a server's port, where that is not the server's own.
    `direct`, where the proxies carry only the first connections and look after the others, counts those
    others.
    """

    name: str
    client: Pod
    server: Pod
    proxies: Mapping[str, int] = field(default_factory=dict)
    reach: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    direct: Callable[[], int] | None = None

    def address(self, port: int) -> tuple[str, int]:
        """Where the client connects to for `port` of the server."""
        return self.reach.get(port, (self.server.address, port))
