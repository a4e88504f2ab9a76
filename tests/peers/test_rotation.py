"""The root is exchanged under two tunnels whose pods talk all the time: no connection notices."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from urllib.request import urlopen

import pytest

from agent.ca.configmaps import ROOTS
from agent.ca.rotation import Phase
from agent.ca.secret import OURS
from agent.kube.errors import ApiError
from agent.node import routing
from agent.node.datapath import Datapath
from protocols import workload_pb2 as workload
from tests.support import apiserver, conversation, core
from tests.support.cluster import Cluster
from tests.support.netns import Node, Pod
from tests.support.ports import free_port
from tests.support.resident import Resident
from tests.support.tunnels import TunnelProcess
from tests.support.wait import until

PORT = 7000
LIFETIME = 10  # seconds, of certificates
_SOON = 60.0  # seconds for what takes a few


@contextmanager
def running_authority(cluster: Cluster, log: Path) -> Iterator[tuple[int, int]]:
    """`warren ca` as a process; gives its port and that of its metrics."""
    port, metrics = free_port(), free_port()
    command = [sys.executable, "-m", "agent.cli.main", "ca", f"--listen=127.0.0.1:{port}", "--source=kube",
               f"--kubeconfig={cluster.kubeconfig}", f"--namespace={cluster.namespace}",
               f"--node-account={cluster.namespace}/warren", f"--lifetime={LIFETIME}",
               f"--metrics-port={metrics}"]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until(lambda: "signing for cluster.local on" in log.read_text(), _SOON, "the authority serves")
        yield port, metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SOON) == 0
    finally:
        process.kill()
        process.wait()


def roots_in(cluster: Cluster) -> str:
    """What is mounted into a tunnel's pod."""
    try:
        found = cluster.get("api", "v1", "namespaces", cluster.namespace, "configmaps", ROOTS.name)
    except ApiError as error:
        assert error.status == 404, error
        return ""
    return str(found["data"][ROOTS.key])


class Tunnels:
    """Two pods, each with a tunnel of its own, as on two nodes."""

    def __init__(self, cluster: Cluster, folder: Path, bpffs: Path, port: int, exits: ExitStack) -> None:
        self._cluster, self._exits = cluster, exits
        self.root = folder / "root.pem"
        self.namespace = cluster.new_namespace("demo")
        node = Node()
        exits.callback(node.close)
        exits.callback(Datapath.remove, bpffs)
        self._datapath = Datapath.open(node.cgroup, bpffs)
        exits.callback(self._datapath.close)
        self.pods = [node.pod(), node.pod()]
        self.identities = [f"spiffe://cluster.local/ns/{self.namespace}/sa/{name}" for name in ("one", "two")]
        self.cores: list[TunnelProcess] = []
        cluster.account("warren")
        self.mount()
        for number, pod in enumerate(self.pods):
            self._add(number, pod, node.make_cgroup(f"tunnel{number}"), folder, port)
        self.client, self.server = (self._resident(pod.cgroup, pod.path) for pod in self.pods)
        self.server.call(conversation.serve_echo, PORT)

    def mount(self) -> None:
        """As the kubelet does: the file is what the ConfigMap holds."""
        if (now := roots_in(self._cluster)) and not (self.root.exists() and self.root.read_text() == now):
            self.root.with_suffix(".new").write_text(now)
            self.root.with_suffix(".new").rename(self.root)

    def ends(self) -> list[int]:
        """When the certificates in use end, Unix time."""
        found: dict[str, int] = {}
        for resident in self.cores:
            found |= {
                one["identity"]: one["not_after"]
                for one in json.loads(resident.call(core.dump))["certificates"]
            }
        return [found.get(identity, 0) for identity in self.identities]

    def meet_anew(self, former: str, uid: str) -> None:
        """At the server's IPv6 address there is another workload now, to which no tunnel is open yet."""
        resource = self._workload("two", uid, "elsewhere", self.pods[1].v6)
        removed = [former] if former else []
        assert self.cores[0].call(core.apply, "workload.Address", [(uid, resource)], removed) == []

    def _add(self, number: int, pod: Pod, cgroup: Path, folder: Path, port: int) -> None:
        name, node = ("one", "two")[number], f"node{number}"
        self._cluster.account(name, self.namespace)
        self._cluster.pod(name, node, name, self.namespace)
        self._cluster.pod(f"tunnel{number}", node, "warren")
        token = folder / f"token{number}"
        token.write_text(self._cluster.token("warren", f"tunnel{number}"))
        resident = TunnelProcess(cgroup, folder / f"tunnel{number}.log")
        self._exits.callback(resident.close)
        self.cores.append(resident)
        self._datapath.trust_tunnel(resident.pid)
        resources = []
        for each, name_there in zip(self.pods, ("one", "two"), strict=True):
            here = each is pod
            addresses = each.addresses if here else [each.v4]
            workload_there = self._workload(
                name_there, name_there, "node" if here else "elsewhere", *addresses
            )
            resources.append((name_there, workload_there))
        assert resident.call(core.apply, "workload.Address", resources, []) == []
        assert resident.call(core.apply, "security.Authorization", [], []) == []  # there are no policies
        resident.call(
            core.keep_certified, f"https://127.0.0.1:{port}", self.root, token, self.identities[number]
        )
        cookie = self._datapath.prepare(pod.netns, pod.addresses)
        routing.install(pod.netns)
        resident.call(core.adopt, pod.path, name, self.namespace)
        self._datapath.capture(pod.netns, cookie)

    def _workload(self, name: str, uid: str, node: str, *addresses: IPv4Address | IPv6Address) -> bytes:
        resource = workload.Address()
        own = resource.workload
        own.uid, own.name, own.namespace, own.service_account = uid, name, self.namespace, name
        own.trust_domain, own.node = "cluster.local", node
        own.addresses.extend(address.packed for address in addresses)
        own.tunnel_protocol = workload.TunnelProtocol.HBONE
        return resource.SerializeToString()

    def _resident(self, cgroup: Path, netns: Path | None = None) -> Resident:
        resident = Resident(cgroup, netns)
        self._exits.callback(resident.close)
        return resident


class Traffic:
    """Connections by new tunnels, one after the other, and one that stays; `failures` should be empty."""

    def __init__(self, tunnels: Tunnels) -> None:
        self.made = 0
        self.failures: list[str] = []
        self._tunnels = tunnels
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def some_more(self) -> None:
        """Wait for a few."""
        enough = self.made + 5
        until(lambda: self.failures or self.made >= enough, _SOON, "connections are made")

    def _run(self) -> None:
        server, uid = self._tunnels.pods[1], ""
        self._tunnels.client.call(conversation.open_connection, (str(server.v4), PORT))
        while not self._over.is_set():
            former, uid = uid, f"two-{self.made}"
            self._tunnels.meet_anew(former, uid)
            try:
                self._tunnels.client.call(conversation.exchange, (str(server.v6), PORT))
                self._tunnels.client.call(conversation.exchange_on_open)
            except OSError as error:
                self.failures.append(f"after {self.made}: {error}")
            self.made += 1


class Rotation:
    """What the cluster and the authority say of it, and how time goes by in it."""

    def __init__(self, cluster: Cluster, metrics: int) -> None:
        self._cluster, self._metrics = cluster, metrics

    def phase(self) -> Phase:
        """Of which the authority knows."""
        with urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10) as response:
            found = re.findall(r'warren_ca_rotation\{phase="(\w+)"\} 1\.0', response.read().decode())
        return Phase(found[0])

    def becomes(self, phase: Phase) -> None:
        until(lambda: self.phase() is phase, _SOON, f"the rotation is {phase.value}")

    def has_lasted(self) -> None:
        """Let the phase have begun an hour ago."""
        hour_ago = time.strftime("%FT%T+00:00", time.gmtime(time.time() - 3600))
        body = {"metadata": {"annotations": {"ca.warren.dev/since": hour_ago}}}
        self._cluster.patch(body, "api", "v1", "namespaces", self._cluster.namespace, "secrets", OURS)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as exits:
        kubeconfig = apiserver.real() or exits.enter_context(apiserver.fake()).kubeconfig
        made = Cluster(kubeconfig)
        yield made
        made.close()


def test_two_tunnels_change_over_to_a_new_root(cluster: Cluster, tmp_path: Path, bpffs: Path) -> None:
    with ExitStack() as exits:
        port, metrics = exits.enter_context(running_authority(cluster, tmp_path / "ca.log"))
        until(lambda: roots_in(cluster), _SOON, "the root is told")
        tunnels = Tunnels(cluster, tmp_path, bpffs.with_name("rotation"), port, exits)
        rotation = Rotation(cluster, metrics)
        until(lambda: all(tunnels.ends()), _SOON, "the tunnels have certificates")
        old = tunnels.root.read_text()
        traffic = exits.enter_context(Traffic(tunnels))

        def all_renewed() -> None:
            """Each tunnel has a certificate that was made from now on."""
            now = time.time()

            def renewed() -> bool:
                tunnels.mount()
                return min(tunnels.ends()) > now + LIFETIME + 1

            until(renewed, _SOON, "certificates are renewed")
            traffic.some_more()
            assert not traffic.failures

        where = [f"--kubeconfig={cluster.kubeconfig}", f"--namespace={cluster.namespace}"]
        command = [sys.executable, "-m", "agent.cli.main", "ca", "rotate", *where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "rotation:   announced" in done.stdout
        rotation.becomes(Phase.ANNOUNCED)
        all_renewed()
        until(lambda: roots_in(cluster).count("BEGIN") == 2, _SOON, "both roots are told")

        rotation.has_lasted()
        rotation.becomes(Phase.SWITCHED)
        all_renewed()

        rotation.has_lasted()
        rotation.becomes(Phase.STEADY)
        all_renewed()
        until(lambda: roots_in(cluster).count("BEGIN") == 1, _SOON, "one root is told")
        tunnels.mount()
        assert tunnels.root.read_text() != old
        assert traffic.made > 15
