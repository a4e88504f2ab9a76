"""Warren's own processes on the lab's nodes: command lines, places, and when they are ready."""

import contextlib
import http.client
import json
import os
import secrets
import socket
import sys
from pathlib import Path

import agent
from agent.lab import addresses, api, cgroups, dns, kernel, process
from agent.lab.cluster import Cluster
from agent.lab.controllers import Body
from agent.lab.errors import LabError
from agent.lab.state import NodeState, State, write_atomically
from agent.node import state as node_state
from agent.node.state import Cookie, PodState, pods
from bpf.pins import Pins

TRUST_DOMAIN = "cluster.local"
_CA_PORT = 15013
CA_METRICS_PORT = 15015  # the agent of the same node has the one that both would take
READY_PORT = 15021
_READY_PORTS = {"agent": 15014, "tunnel": READY_PORT}  # ztunnel's cannot be changed
_XDS_ADDRESS = "127.0.0.1:15012"
_API_PORT = 6443  # of the way to the API server, on each node's loopback
_READY_WITHIN = 60.0  # seconds; a start takes 1 to 2 on an idle machine of 2 CPUs, 20 on a busy one


def roles(state: State, node: NodeState) -> list[str]:
    """What runs on a node, in the order in which it is started."""
    first = node == state.nodes[0]
    watch = [*(["watch"] if first else []), "kubelet"] if state.manifests else []
    if not state.mesh:
        return ["dns", *watch]
    doors = ["doors"] if first and state.doors else []
    before, after = (["api", "ca", "mounts"], ["reporter"]) if state.api else (["ca"], [])
    central = before if first else []
    return ["dns", *central, "agent", "tunnel", *(after if first else []), *doors, *watch]


def cgroup(state: State, node: NodeState, role: str) -> Path:
    return state.cgroup / node.name / role


def log(state: State, node: NodeState, role: str) -> Path:
    return state.run / "log" / f"{node.name}-{role}.log"


def run_dir(state: State, node: NodeState) -> Path:
    return state.run / "nodes" / node.name


def bpffs(state: State, node: NodeState) -> Path:
    return state.run / "bpf" / node.name


def prepare(state: State, cluster: Cluster) -> None:
    """Folders, a bpffs of the lab's own, and a token for each node with which it may call the CA.

    Raises SettingsError for a kubeconfig that is of no use, LabError.
    """
    (state.run / "bpf").mkdir()
    kernel.mount("bpf", state.run / "bpf", "bpf")
    authority = state.run / "ca"
    authority.mkdir(mode=0o700)
    if cluster.api:
        cluster.put(api.system(state.nodes))
        state.found = cluster.api.found()
        state.save()
        state.server = api.copy_kubeconfig(Path(state.api), state.run / "kubeconfig", _API_PORT)
    tokens = {}
    for node in state.nodes:
        run_dir(state, node).mkdir(parents=True)
        cgroup(state, node, "kubelet").mkdir(parents=True)
        bpffs(state, node).mkdir()
        token = (
            cluster.api.token(api.pod_of(node), api.NODE_ACCOUNT)
            if cluster.api
            else secrets.token_urlsafe(32)
        )
        tokens[token] = node.name
        write_atomically(run_dir(state, node) / "ca-token", token, 0o600)
    write_atomically(authority / "tokens.json", json.dumps(tokens), 0o600)


def start(state: State, node: NodeState, role: str) -> None:
    """Start one role's process on a node; `await_ready` says when it is of use. Raises LabError."""
    run(state, node, role, command(state, node, role))


def command(state: State, node: NodeState, role: str) -> list[str]:
    """The command line of one role on a node."""
    return _COMMANDS[role](state, node)


def run(state: State, node: NodeState, role: str, argv: list[str]) -> None:
    """Start a process in a role's place. Raises LabError."""
    group = cgroup(state, node, role)
    group.mkdir(parents=True, exist_ok=True)
    root = str(Path(agent.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    if role not in ("api", "doors", "watch"):  # two lead out of the lab's network and into it, one makes it
        argv = process.in_network(kernel.NETNS_DIRECTORY / node.netns, argv)
    process.start(group, argv, log(state, node, role), {**os.environ, "PYTHONPATH": path})


def await_ready(state: State, node: NodeState, role: str, within: float = _READY_WITHIN) -> None:
    """Wait until a role answers. Raises LabError with the end of its log when it does not in time."""
    place = cgroup(state, node, role)
    written = {"watch": state.problems, "mounts": state.run / "ca" / "root.pem"}

    def ready() -> bool:
        if role in _READY_PORTS:
            return says_ready(node, _READY_PORTS[role])
        if role in written:
            return written[role].exists()
        if role == "api":
            return _accepts(node, _API_PORT)
        if role == "doors":
            listening = (process.listening_ports(pid) for pid in cgroups.pids(place))
            return any(state.doors.keys() <= ports for ports in listening)
        if role in ("reporter", "kubelet"):
            return True  # nobody waits for it
        port = 53 if role == "dns" else _CA_PORT
        return any(port in process.listening_ports(pid) for pid in cgroups.pids(place))

    process.await_ready(ready, f"the {role} of {node.name}", place, log(state, node, role), within)


def captured(state: State, node: NodeState) -> dict[Cookie, PodState]:
    """How the kernel treats the pods of a node, by the cookies of their network namespaces."""
    pins = Pins(bpffs(state, node))
    maps = {name: present for name in ("pods", "addresses", "listeners") if (present := pins.map(name))}
    return pods(pins, maps) if len(maps) == 3 else {}


def verdicts(state: State, node: NodeState) -> dict[str, int]:
    """How often the kernel has given each verdict on a node."""
    counters = Pins(bpffs(state, node)).map("verdicts")
    return node_state.verdicts(counters) if counters else {}


def fetch(node: NodeState, port: int, path: str) -> str:
    """A page of one of the node's processes. Raises LabError when it is not to be had."""

    def ask() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200:
                raise LabError(f"port {port} of {node.name} answers {answer.status} to {path}")
            return answer.read().decode()

    try:
        return kernel.in_netns(kernel.NETNS_DIRECTORY / node.netns, ask)
    except (OSError, http.client.HTTPException) as error:
        raise LabError(
            f"port {port} of {node.name} does not answer: {error}: does the process run?"
        ) from error


def says_ready(node: NodeState, port: int) -> bool:
    """Whether readiness at that port says so."""

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


def _accepts(node: NodeState, port: int) -> bool:
    def ask() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    return kernel.in_netns(kernel.NETNS_DIRECTORY / node.netns, ask)


def _warren(command: str, **options: object) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [sys.executable, "-P", "-m", "agent.cli.main", command, *flags]


def _source(state: State) -> dict[str, object]:
    if state.api:
        return {"source": "kube", "kubeconfig": state.run / "kubeconfig"}
    return {"source": f"dir:{state.run / 'cluster'}"}


def _authority(state: State) -> str:
    return f"{state.nodes[0].address}:{_CA_PORT}"


def _dns(state: State, node: NodeState) -> list[str]:
    return dns.server(state.run / "hosts")


def _api(state: State, node: NodeState) -> list[str]:
    namespaces = [str(kernel.NETNS_DIRECTORY / node.netns) for node in state.nodes]
    host, port = state.server
    return [
        sys.executable,
        "-P",
        "-m",
        "agent.lab.relay",
        "out",
        host,
        str(port),
        str(_API_PORT),
        *namespaces,
    ]


def _doors(state: State, node: NodeState) -> list[str]:
    pairs = [f"{own}:{port}" for own, port in state.doors.items()]
    netns = str(kernel.NETNS_DIRECTORY / state.door)
    return [sys.executable, "-P", "-m", "agent.lab.relay", "in", netns, *pairs]


def _watch(state: State, node: NodeState) -> list[str]:
    return [sys.executable, "-P", "-m", "agent.lab.watch", state.name]


def _kubelet(state: State, node: NodeState) -> list[str]:
    return [sys.executable, "-P", "-m", "agent.lab.prober", state.name, node.name]


def _ca(state: State, node: NodeState) -> list[str]:
    folder = state.run / "ca"
    own: dict[str, object] = {"dir": folder, "tokens": folder / "tokens.json"}
    if state.api:
        own = {"namespace": api.NAMESPACE, "node_account": f"{api.NAMESPACE}/{api.NODE_ACCOUNT}"}
    return _warren(
        "ca",
        **own,
        **_source(state),
        listen=_authority(state),
        trust_domain=TRUST_DOMAIN,
        metrics_port=CA_METRICS_PORT,
    )


def _agent(state: State, node: NodeState) -> list[str]:
    probing = {"kubelet_cgroup": cgroup(state, node, "kubelet")} if state.manifests else {}
    config = {"mesh_config": state.mesh_config} if state.mesh_config else {}
    return _warren(
        "agent",
        **probing,
        **config,
        node=node.name,
        run_dir=run_dir(state, node),
        cgroup=state.cgroup / node.name,
        bpffs=bpffs(state, node),
        **_source(state),
        xds_address=_XDS_ADDRESS,
        tls_folder=state.run / "tls",
        trust_domain=TRUST_DOMAIN,
        metrics_port=_READY_PORTS["agent"],
    )


def gateway(state: State, node: NodeState, pod: Body) -> list[str]:
    """The process of a gateway's pod: its node's agent and token serve it as well."""
    run = run_dir(state, node)
    argv = _warren(
        "gateway",
        pod=pod["metadata"]["name"],
        namespace=pod["metadata"]["namespace"],
        service_account=pod["spec"]["serviceAccountName"],
        node=node.name,
        xds=f"unix:{run / 'xds.sock'}",
        ca=f"https://{_authority(state)}",
        ca_root=state.run / "ca" / "root.pem",
        ca_token=run / "ca-token",
        dns_server=addresses.DNS_V4,
        crl=state.run / "ca" / "ca-crl.pem",
        access_log=state.access_log,
        ready_port=READY_PORT,
        trust_domain=TRUST_DOMAIN,
    )
    return ["env", f"PYTHONPATH={Path(agent.__file__).parents[1]}", *argv]


def _tunnel(state: State, node: NodeState) -> list[str]:
    if binary := state.ztunnels.get(node.name):
        return ["env", *_ztunnel_environment(state, node), binary]
    run = run_dir(state, node)
    direct = {"direct": bpffs(state, node)} if state.direct else {}
    return [
        *_warren(
            "tunnel",
            **direct,
            node=node.name,
            zds=run / "ztunnel.sock",
            xds=f"unix:{run / 'xds.sock'}",
            ca=f"https://{_authority(state)}",
            ca_root=state.run / "ca" / "root.pem",
            ca_token=run / "ca-token",
            bpffs=bpffs(state, node),
            dns_server=addresses.DNS_V4,
            crl=state.run / "ca" / "ca-crl.pem",
            access_log=state.access_log,
            ready_port=_READY_PORTS["tunnel"],
            trust_domain=TRUST_DOMAIN,
        ),
        "--keep-listeners",
        f"--cgroup={cgroup(state, node, 'tunnel')}",
    ]


def _mounts(state: State, node: NodeState) -> list[str]:
    places = state.run / "kubeconfig", state.run / "ca"
    return [sys.executable, "-P", "-m", "agent.lab.mounts", *map(str, places)]


def _reporter(state: State, node: NodeState) -> list[str]:
    own = {"kubeconfig": state.run / "kubeconfig", "namespace": api.NAMESPACE, "trust_domain": TRUST_DOMAIN}
    own |= {"mesh_config": state.mesh_config} if state.mesh_config else {}
    return _warren("reporter", **own)


_COMMANDS = {
    "dns": _dns,
    "api": _api,
    "doors": _doors,
    "ca": _ca,
    "agent": _agent,
    "tunnel": _tunnel,
    "mounts": _mounts,
    "reporter": _reporter,
    "watch": _watch,
    "kubelet": _kubelet,
}


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
