"""One way from a client to a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import cpu
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
    others. `helpers` are processes that a proxy has beside it and that carry nothing, by its name.
    """

    name: str
    client: Pod
    server: Pod
    proxies: Mapping[str, int] = field(default_factory=dict)
    reach: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    direct: Callable[[], int] | None = None
    helpers: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def memory(self) -> dict[str, int]:
        """Bytes of memory of each proxy with its helpers."""
        return {name: cpu.memory(pid, *self.helpers.get(name, ())) for name, pid in self.proxies.items()}

    def address(self, port: int) -> tuple[str, int]:
        """Where the client connects to for `port` of the server."""
        return self.reach.get(port, (self.server.address, port))
