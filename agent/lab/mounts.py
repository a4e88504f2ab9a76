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


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


def mount(client: Client, kind: Kind, file: Path) -> None:
    """Have a thread keep `file` as the ConfigMap says, for good; without its key there is no file."""

    def take(events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Put):
                data = msgspec.json.decode(event.raw, type=_ConfigMap).data
                _write(file, data.get(kind.key, ""))
            elif isinstance(event, Gone):
                _write(file, "")

    path = path_of("api", "v1", "namespaces", NAMESPACE, "configmaps")
    Watcher(client, [path], take, lambda: None, fields=f"metadata.name={kind.name}").start()


def _write(file: Path, text: str) -> None:
    if text:
        write_atomically(file, text)
    else:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    logs.configure("info", "text")
    client = Client.load(Path(sys.argv[1]))
    for kind, name in _FILES.items():
        mount(client, kind, Path(sys.argv[2]) / name)
    threading.Event().wait()
