"""Warren's ConfigMaps as files, kept up to date: what a kubelet mounts into tunnels and gateways.

    python -m agent.lab.mounts KUBECONFIG FOLDER

A process of a lab whose cluster is on an API server; elsewhere the CA writes these files itself.
"""

import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from agent import logs
from agent.ca.configmaps import CRL, ROOTS, Kind
from agent.kube.client import Client, path_of
from agent.kube.listwatch import Event, Gone, Put
from agent.kube.watch import Watcher
from agent.lab.api import NAMESPACE
from agent.lab.state import write_atomically

_FILES = {ROOTS: "root.pem", CRL: "ca-crl.pem"}  # as the CA names them in a folder of its own
_OPTIONAL = {CRL}  # of which there is no file without the key (deploy/daemonset/node.yaml); the others stay


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


def mount(client: Client, kind: Kind, file: Path) -> None:
    """Have a thread keep `file` as the ConfigMap says, for good."""

    def keep(text: str) -> None:
        if text:
            write_atomically(file, text)
        elif kind in _OPTIONAL:
            file.unlink(missing_ok=True)

    def take(events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Put):
                keep(msgspec.json.decode(event.raw, type=_ConfigMap).data.get(kind.key, ""))
            elif isinstance(event, Gone):
                keep("")

    path = path_of("api", "v1", "namespaces", NAMESPACE, "configmaps")
    Watcher(client, [path], take, lambda: None, fields=f"metadata.name={kind.name}").start()


if __name__ == "__main__":
    logs.configure("info", "text")
    client = Client.load(Path(sys.argv[1]))
    for kind, name in _FILES.items():
        mount(client, kind, Path(sys.argv[2]) / name)
    threading.Event().wait()
