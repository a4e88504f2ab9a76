"""Warren's own processes on the lab's nodes: command lines, places, and when they are ready."""

import http.client
import json
import os
import secrets
import sys
from pathlib import Path

import agent
from agent.lab import cgroups, dns, kernel, process
from agent.lab.state import NodeState, State, write_atomically
from agent.node.state import Cookie, PodState, pods
from bpf.pins import Pins

TRUST_DOMAIN = "cluster.local"
_CA_PORT = 15013
_CA_METRICS_PORT = 15015  # the agent of the same node has the one that both would take
_READY_PORTS = {"agent": 15014, "tunnel": 15021}  # ztunnel's cannot be changed
_XDS_ADDRESS = "127.0.0.1:15012"
_READY_WITHIN = 20.0  # seconds; a start takes 1 to 2 on an idle machine of 2 CPUs


def roles(state: State, node: NodeState) -> list[str]:
    """What runs on a node, in the order in which it is started."""
    if not state.mesh:
        return ["dns"]
    return ["dns", *(["ca"] if node == state.nodes[0] else []), "agent", "tunnel"]


def cgroup(state: State, node: NodeState, role: str) -> Path:
    return state.cgroup / node.name / role


def log(state: State, node: NodeState, role: str) -> Path:
    return state.run / "log" / f"{node.name}-{role}.log"


def run_dir(state: State, node: NodeState) -> Path:
    return state.run / "nodes" / node.name


def bpffs(state: State, node: NodeState) -> Path:
    return state.run / "bpf" / node.name


def prepare(state: State) -> None:
    """Folders, a bpffs of the lab's own, and a token for each node with which it may call the CA."""
    (state.run / "bpf").mkdir()
    kernel.mount("bpf", state.run / "bpf", "bpf")
    authority = state.run / "ca"
    authority.mkdir(mode=0o700)
    tokens = {}
    for node in state.nodes:
        run_dir(state, node).mkdir(parents=True)
        bpffs(state, node).mkdir()
        token = secrets.token_urlsafe(32)
        tokens[token] = node.name
        write_atomically(run_dir(state, node) / "ca-token", token, 0o600)
    write_atomically(authority / "tokens.json", json.dumps(tokens), 0o600)


def start(state: State, node: NodeState, role: str) -> None:
    """Start one role's process on a node; `await_ready` says when it is of use. Raises LabError."""
    argv = {"dns": _dns, "ca": _ca, "agent": _agent, "tunnel": _tunnel}[role](state, node)
    group = cgroup(state, node, role)
    group.mkdir(parents=True, exist_ok=True)
    root = str(Path(agent.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    inside = process.in_network(kernel.NETNS_DIRECTORY / node.netns, argv)
    process.start(group, inside, log(state, node, role), {**os.environ, "PYTHONPATH": path})


def await_ready(state: State, node: NodeState, role: str) -> None:
    """Wait until a role answers. Raises LabError with the end of its log when it does not."""
    place = cgroup(state, node, role)

    def ready() -> bool:
        if role in _READY_PORTS:
            return _says_ready(node, _READY_PORTS[role])
        port = 53 if role == "dns" else _CA_PORT
        return any(port in process.listening_ports(pid) for pid in cgroups.pids(place))

    process.await_ready(ready, f"the {role} of {node.name}", place, log(state, node, role), _READY_WITHIN)


def captured(state: State, node: NodeState) -> dict[Cookie, PodState]:
    """How the kernel treats the pods of a node, by the cookies of their network namespaces."""
    pins = Pins(bpffs(state, node))
    maps = {name: present for name in ("pods", "addresses", "listeners") if (present := pins.map(name))}
    return pods(pins, maps) if len(maps) == 3 else {}


def _says_ready(node: NodeState, port: int) -> bool:
    def ask() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/healthz/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    return kernel.in_netns(kernel.NETNS_DIRECTORY / node.netns, ask)


def _warren(command: str, **options: object) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [sys.executable, "-P", "-m", "agent.cli.main", command, *flags]


def _source(state: State) -> str:
    return f"dir:{state.run / 'cluster'}"


def _authority(state: State) -> str:
    return f"{state.nodes[0].address}:{_CA_PORT}"


def _dns(state: State, node: NodeState) -> list[str]:
    return dns.server(state.run / "hosts")


def _ca(state: State, node: NodeState) -> list[str]:
    folder = state.run / "ca"
    return _warren(
        "ca",
        dir=folder,
        tokens=folder / "tokens.json",
        listen=_authority(state),
        source=_source(state),
        trust_domain=TRUST_DOMAIN,
        metrics_port=_CA_METRICS_PORT,
    )


def _agent(state: State, node: NodeState) -> list[str]:
    return _warren(
        "agent",
        node=node.name,
        run_dir=run_dir(state, node),
        cgroup=state.cgroup / node.name,
        bpffs=bpffs(state, node),
        source=_source(state),
        xds_address=_XDS_ADDRESS,
        trust_domain=TRUST_DOMAIN,
        metrics_port=_READY_PORTS["agent"],
    )


def _tunnel(state: State, node: NodeState) -> list[str]:
    if binary := state.ztunnels.get(node.name):
        return ["env", *_ztunnel_environment(state, node), binary]
    run = run_dir(state, node)
    return _warren(
        "tunnel",
        node=node.name,
        zds=run / "ztunnel.sock",
        xds=f"unix:{run / 'xds.sock'}",
        ca=f"https://{_authority(state)}",
        ca_root=state.run / "ca" / "root.pem",
        ca_token=run / "ca-token",
        access_log=state.access_log,
        ready_port=_READY_PORTS["tunnel"],
        trust_domain=TRUST_DOMAIN,
    )


def _ztunnel_environment(state: State, node: NodeState) -> list[str]:
    """Settings for Istio's ztunnel in our tunnel's place, with the same agent, CA and redirection."""
    run = run_dir(state, node)
    settings = {
        "PROXY_MODE": "shared",
        "INPOD_UDS": run / "ztunnel.sock",
        "NODE_NAME": node.name,
        "XDS_ADDRESS": f"https://{_XDS_ADDRESS}",
        "XDS_ROOT_CA": run / "xds-root.pem",
        "CA_ADDRESS": f"https://{_authority(state)}",
        "CA_ROOT_CA": state.run / "ca" / "root.pem",
        "AUTH_TOKEN": run / "ca-token",
        "CLUSTER_ID": "Kubernetes",
        "TRUST_DOMAIN": TRUST_DOMAIN,
        "ISTIO_META_DNS_CAPTURE": "false",
        "RUST_LOG": "info" if state.access_log == "all" else "error",
    }
    return [f"{name}={value}" for name, value in settings.items()]
