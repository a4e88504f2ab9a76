"""The tunnel's core alone, without an agent or an authority. Its functions run in a Resident."""

import asyncio
import os
import threading
from pathlib import Path

from google.protobuf.any_pb2 import Any

from protocols.discovery_pb2 import DeltaDiscoveryResponse
from tunnel._core import Core
from tunnel.certificates import AuthorityClient, Certificates
from tunnel.counters import Counters
from tunnel.settings import CertificateAuthority

_cores: list[Core] = []


def start(log: str) -> None:
    """Start the core; `log` takes what it writes, its access log in JSON above all."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 2)
    os.close(output)
    _cores.append(Core(node="node", workers=1, spin_us=0, access_log="all,json"))


def apply(kind: str, resources: list[tuple[str, bytes]], removed: list[str]) -> list[tuple[str, str]]:
    url = f"type.googleapis.com/istio.{kind}"
    push = DeltaDiscoveryResponse(type_url=url, removed_resources=removed)
    for name, body in resources:
        push.resources.add(name=name, resource=Any(type_url=url, value=body))
    return _cores[0].apply(push.SerializeToString(), []).rejected


def request(identity: str) -> str:
    return _cores[0].new_key(identity)


def certify(identity: str, chain: list[str], root: str) -> None:
    _cores[0].set_certificate(identity, chain, root)


def adopt(
    netns: Path, name: str, namespace: str = "demo", account: str = "", domain: str = "cluster.local"
) -> None:
    """Serve a pod, whose service account has its name if no other one is said."""
    fd = os.open(netns, os.O_RDONLY)
    _cores[0].add_pod(f"uid-{name}", fd, name, namespace, account or name, domain)
    os.close(fd)


def leave(name: str) -> None:
    """Serve a pod no longer."""
    _cores[0].remove_pod(f"uid-{name}")


def set_crl(data: bytes | None) -> None:
    """The revocation lists in force from now on."""
    _cores[0].set_crl(data)


def metrics() -> str:
    return _cores[0].metrics()


def connections() -> str:
    return _cores[0].connections()


def drain(deadline: float) -> int:
    return _cores[0].drain(deadline)


def dump() -> str:
    return _cores[0].dump()


def keep_certified(url: str, root: Path, token: Path, identity: str) -> None:
    """Have a certificate at all times, from an authority; `root` and `token` are files."""
    where = CertificateAuthority(url, root, token)

    async def main() -> None:
        certificates = Certificates(_cores[0], AuthorityClient(_cores[0], where, "Kubernetes"), Counters())
        certificates.use({identity})
        await certificates.follow_root()

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
