"""The floor of a way through two proxies: three TCP connections and two relays that only copy."""

from bench.envoy import local_listeners
from bench.path import PORTS, DataPath
from bench.pods import Pod
from bench.processes import Processes


def start(path: str, processes: Processes, pods: tuple[Pod, Pod]) -> DataPath:
    """Start a relay in the client's pod and one in the server's."""
    client, server = pods
    reach = local_listeners(PORTS)
    near, far = [], []
    for port, (host, local) in reach.items():
        at = f"{server.address}:{local}"
        near.append(f"{host}:{local}={at}")
        far.append(f"{at}={server.address}:{port}")
    pids = {
        name: processes.start(f"{path}-{name}", pod, [str(processes.load), "relay", *ways])
        for name, pod, ways in (("far", server, far), ("near", client, near))
    }
    return DataPath(path, client, server, pids, reach)
