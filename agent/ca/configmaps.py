"""ConfigMaps of each namespace, by Istio's names: whom those who verify are to trust, and whom no more."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

import msgspec

from agent.ca.errors import Refusal
from agent.ca.limits import Buckets
from agent.kube.client import MERGE, Client, path_of
from agent.kube.errors import ApiError
from agent.kube.lease import Lease
from agent.kube.listwatch import Event, Gone, Put
from agent.kube.watch import Watcher

log = logging.getLogger("warren.ca")


class Kind(NamedTuple):
    """One of them; `holds` counts what it holds, in PEM."""

    name: str
    key: str
    holds: str


ROOTS = Kind("istio-ca-root-cert", "root-cert.pem", "CERTIFICATE")
CRL = Kind("istio-ca-crl", "ca-crl.pem", "X509 CRL")
LABELS = {"istio.io/config": "true"}
_EVERY = 0.5  # seconds between two looks at what is different
_PAUSE = 0.02  # seconds between two writes
# For one namespace: there may be another who writes it, and it would go back and forth without an end.
_RATE, _BURST, _MOST = 1 / 60, 5, 100_000


class _Metadata(msgspec.Struct):
    labels: dict[str, str] = {}


class _ConfigMap(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] = {}


class ConfigMaps:
    """Makes those of one kind what they should be, again when others change them; for the lease's holder.

    Where there is nothing to tell none is made, and one that is there loses its key: whoever mounts it finds
    no file.
    """

    def __init__(
        self, client: Client, lease: Lease, namespaces: Set[str], kind: Kind, text: Callable[[], str]
    ) -> None:
        """namespaces: those that there are, at any time. text: what to tell, may be empty; raises Refusal."""
        self._client = client
        self._lease = lease
        self._namespaces = namespaces
        self._kind = kind
        self._text = text
        # By namespace: its text; None when it is not labelled as it should be.
        self._found: dict[str, str | None] = {}
        self._heard: Counter[str] = Counter()  # how often the watch told of a namespace's
        self._lock = threading.Lock()  # of both
        self._writes = Buckets(_RATE, _BURST, _MOST)
        self._failing: set[str] = set()

    async def run(self) -> None:
        """For good."""
        path, one = path_of("api", "v1", "configmaps"), f"metadata.name={self._kind.name}"
        watcher = Watcher(self._client, [path], self._take, lambda: None, fields=one)
        watcher.start()
        try:
            while True:
                await asyncio.sleep(_EVERY)
                if watcher.state == "current":
                    await self._repair()
        finally:
            watcher.stop()

    def _take(self, events: Iterable[Event]) -> None:
        """Called by the watcher's thread."""
        for event in events:
            if isinstance(event, Put | Gone):
                with self._lock:
                    self._heard[event.name.namespace] += 1
                    if isinstance(event, Put):
                        self._found[event.name.namespace] = _told(event.raw, self._kind.key)
                    else:
                        self._found.pop(event.name.namespace, None)

    async def _repair(self) -> None:
        """One look at all namespaces."""
        try:
            text = self._text()
        except Refusal:
            return
        for namespace in sorted(filter(_is_told, self._namespaces)):
            if self._found.get(namespace, "") == text:
                self._failing.discard(namespace)
            elif self._lease.held and self._writes.take(namespace):
                await asyncio.to_thread(self._write, namespace, text)
                await asyncio.sleep(_PAUSE)
            elif self._lease.held and namespace not in self._failing:
                self._failing.add(namespace)
                log.warning(
                    "ConfigMap %s/%s cannot be kept: does another CA write it? Trying once a minute",
                    namespace,
                    self._kind.name,
                )

    def _write(self, namespace: str, text: str) -> None:
        """Blocks."""
        name, key, holds = self._kind
        path = path_of("api", "v1", "namespaces", namespace, "configmaps")
        body = {"metadata": {"name": name, "labels": LABELS}, "data": {key: text or None}}
        heard = self._heard[namespace]
        try:
            if namespace in self._found:
                self._client.request("PATCH", f"{path}/{name}", body=body, content_type=MERGE)
            else:
                self._client.request("POST", path, body=body)
        except ApiError as error:
            # What we have not heard of yet will be told, and then it is another request.
            if error.status not in (404, 409):
                log.warning("ConfigMap %s/%s: %s", namespace, name, error)
            return
        log.info("ConfigMap %s/%s: %d of %s", namespace, name, text.count(f"BEGIN {holds}"), holds)
        with self._lock:
            if self._heard[namespace] == heard:  # else the watch knows better: somebody may have been faster
                self._found[namespace] = text


def _is_told(namespace: str) -> bool:
    """As istiod does: nothing of the mesh runs in the others that are Kubernetes' own."""
    return namespace == "kube-system" or not namespace.startswith("kube-")


def _told(raw: msgspec.Raw, key: str) -> str | None:
    try:
        found = msgspec.json.decode(raw, type=_ConfigMap)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found.data.get(key, "") if found.metadata.labels.items() >= LABELS.items() else None
