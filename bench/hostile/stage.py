"""The stage: a pod that is attacked through its node's tunnel, and on the other node two peers of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.ca.authority import Authority
from agent.ca.directory import open_root
from agent.ca.spiffe import SpiffeId
from agent.lab import Lab, Node
from agent.lab import Pod as LabPod
from agent.lab.mesh import TRUST_DOMAIN
from bench.clients import try_once
from bench.errors import BenchError
from bench.path import ECHO, DataPath
from bench.pods import Pod
from bench.processes import Processes

LAB = "wt-hostile"
SERVES_WITHIN = 20.0  # seconds
NODES = {
    "victim": "node1",
    "hostile": "node2",
    "honest": "node2",
    "neighbour": "node1",
    "remote": "node2",
    "outsider": "node1",
    "elsewhere": "node2",
}
"""The pods, each with an account of its own, and where they run."""
SERVERS = ("victim", "honest", "remote", "elsewhere")
UNMESHED = ("outsider", "elsewhere")


@dataclass(frozen=True)
class Identity:
    """A certificate's chain and its key: files in PEM."""

    chain: Path
    key: Path


@dataclass(frozen=True)
class Stage:
    """The pods by name, their identities, the victim's node, and the load generator."""

    pods: dict[str, Pod]
    identities: dict[str, Identity]
    node: Node
    load: Path

    @property
    def tunnel(self) -> int:
        """The pid of the tunnel that is attacked."""
        *_, pid = self.node.pids("tunnel")  # the keeper is first
        return pid

    def restart(self) -> None:
        """A fresh tunnel for the victim's node, which serves. Raises LabError, BenchError."""
        self.node.stop("tunnel", within=0)
        self.node.start("tunnel")
        victim, honest = self.pods["victim"], self.pods["honest"]
        for path in (DataPath("in", honest, victim), DataPath("out", victim, honest)):
            deadline = time.monotonic() + SERVES_WITHIN
            while why := try_once(self.load, path, ECHO):
                if time.monotonic() > deadline:
                    raise BenchError(f"the tunnel carries nothing after {SERVES_WITHIN:.0f} s: {why}")
                time.sleep(0.1)

    def metrics(self) -> str:
        """What the tunnel counts, as Prometheus reads it."""
        return self.node.run(["curl", "-sS", "--fail", "http://127.0.0.1:15020/metrics"]).stdout


@contextmanager
def stage(processes: Processes, folder: Path) -> Iterator[Stage]:
    """Bring up the lab and the pods' applications; all is gone afterwards. Raises LabError, BenchError."""
    Lab.remove(LAB)
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump_all(_manifests()))
    with Lab.up([manifest], name=LAB) as lab:
        try:
            pods = {name: lab.pod(f"default/{name}") for name in NODES}
            places = {name: Pod(name, pod.netns, pod.cgroup, str(pod.ipv4)) for name, pod in pods.items()}
            for name in SERVERS:
                processes.start(name, places[name], [str(processes.load), "victim", "0.0.0.0"])
            node = lab.node(NODES["victim"])
            yield Stage(places, _identities(lab, pods, folder), node, processes.load)
        finally:
            processes.close()


def _manifests() -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    for name, node in NODES.items():
        mode = "none" if name in UNMESHED else "ambient"
        meta = {"name": name, "namespace": "default", "labels": {"istio.io/dataplane-mode": mode}}
        spec = {
            "nodeName": node,
            "serviceAccountName": name,
            "containers": [{"name": "c", "image": "none"}],
        }
        objects.append({"kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}})
        objects.append({"kind": "Pod", "metadata": meta, "spec": spec})
    return [{"apiVersion": "v1", **each} for each in objects]


def _identities(lab: Lab, pods: dict[str, LabPod], folder: Path) -> dict[str, Identity]:
    """What the lab's CA would give each pod's node, signed by its own root."""
    root = open_root(lab.state.run / "ca", TRUST_DOMAIN)
    authority = Authority(lambda: root)
    peers = ("hostile", "honest")
    return {name: _issue(authority, pods[name].identity, folder / name) for name in peers}


def _issue(authority: Authority, identity: str, stem: Path) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=True)
    pem = serialization.Encoding.PEM
    csr = request.sign(key, hashes.SHA256()).public_bytes(pem).decode()
    files = Identity(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    files.chain.write_text("".join(authority.issue(csr, SpiffeId.parse(identity)).chain))
    files.key.touch(mode=0o600)
    form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files.key.write_bytes(key.private_bytes(pem, form, no_password))
    return files
