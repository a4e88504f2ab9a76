"""One of several does it: leader election on a Lease of coordination.k8s.io/v1."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from agent.kube.client import Client, path_of
from agent.kube.errors import ApiError

log = logging.getLogger(__name__)

_TIMEOUT = 3.0  # seconds, for each of two requests
DURATION = 15  # seconds without a renewal after which another may take a lease
_RENEW = DURATION / 6  # seconds


class Renewal(NamedTuple):
    """By whom, and by how much that one's clock is ahead of ours, to a few seconds."""

    holder: str
    ahead: timedelta


class Lease:
    """A lease that `holder`, a name that no other has, tries to hold.

    Clocks of other machines are not trusted: a lease has run out when we have seen it unchanged for its
    duration. We ourselves stop to count on ours after two thirds of it.
    """

    def __init__(self, client: Client, namespace: str, name: str, holder: str) -> None:
        self.holder = holder
        self.renewal: Renewal | None = None  # the last one by another, while it is not ours
        self._client = client
        self._path = path_of("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")
        self._name, self._namespace = name, namespace
        self._seen: tuple[str, float] = ("", 0.0)  # the version that is in force, and since when we know it
        self._until = 0.0
        self._failure = ""
        self._writing = threading.Lock()  # who releases it waits for a renewal that is under way

    @property
    def held(self) -> bool:
        """Whether it is ours at this moment. Ask again before each thing that only one may do."""
        return time.monotonic() < self._until

    def attempt(self) -> bool:
        """Take it if it is free, renew it if it is ours; whether it is. Blocks. Raises ApiError."""
        with self._writing:
            return self._attempt()

    def _attempt(self) -> bool:
        started = time.monotonic()
        try:
            lease = self._read()
            if lease is None or self._may_take(lease):
                self._write(lease or {"metadata": {"name": self._name, "namespace": self._namespace}})
            else:
                self._until = 0.0
                return False
        except ApiError as error:
            if error.status != 409:
                raise
            self._until = 0.0  # another was faster
            return False
        self._until, self.renewal = started + DURATION * 2 / 3, None
        return True

    def release(self) -> None:
        """Let another have it at once, if it is ours. Blocks. Raises ApiError."""
        with self._writing:
            self._until = 0.0
            lease = self._read()
            if lease and lease["spec"].get("holderIdentity") == self.holder:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._client.request("PUT", f"{self._path}/{self._name}", body=lease, timeout=_TIMEOUT)

    def leave(self) -> None:
        """Release it at the end of the process, and say so when another has to wait for it. Blocks."""
        for last in (False, True):
            try:
                return self.release()
            except ApiError as error:  # also a conflict with a renewal whose answer did not come in time
                if last:
                    lease = f"{self._namespace}/{self._name}"
                    log.warning("lease %s is not released, and free in %d s: %s", lease, DURATION, error)

    async def keep(self, patience: float = _RENEW, fit: Callable[[], bool] = lambda: True) -> None:
        """Try to hold it, until cancelled. What goes wrong is logged once, and tried again.

        patience: seconds between two looks at a lease that another holds; long where there are many of us.
        fit: whether we can do what its holder has to; as long as not, it is left to others.
        """
        while True:
            held, failure = self.held, ""
            try:
                await asyncio.to_thread(self.attempt if fit() else self.release)
            except ApiError as error:
                failure = f"lease {self._namespace}/{self._name}: {error}"
            if failure and failure != self._failure:
                log.warning("%s", failure)
            if self.held != held:
                log.info("lease %s/%s is %s", self._namespace, self._name, "ours" if self.held else "lost")
            self._failure = failure
            await asyncio.sleep((_RENEW if self.held else patience) * random.uniform(0.8, 1.2))

    def _read(self) -> Any:
        try:
            return self._client.read(f"{self._path}/{self._name}", _TIMEOUT)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _write(self, lease: Any) -> None:
        """A Lease that is not there is made by an update: the right to create may name it then."""
        lease["spec"] = self._spec(lease.get("spec") or {})
        try:
            self._client.request("PUT", f"{self._path}/{self._name}", body=lease, timeout=_TIMEOUT)
        except ApiError as error:
            if error.status != 404:
                raise
            self._client.request("POST", self._path, body=lease, timeout=_TIMEOUT)

    def _may_take(self, lease: Any) -> bool:
        version, now = lease["metadata"]["resourceVersion"], time.monotonic()
        spec = lease.get("spec") or {}
        if version != self._seen[0]:
            if self._seen[0]:  # else it may have been renewed at any time
                self.renewal = _renewal(spec)
            self._seen = version, now
        if spec.get("holderIdentity", "") in ("", self.holder):
            return True
        return bool(now - self._seen[1] > spec.get("leaseDurationSeconds", DURATION))

    def _spec(self, former: Any) -> Any:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if former.get("holderIdentity") == self.holder:
            return {**former, "renewTime": now}
        return {
            **former,
            "holderIdentity": self.holder,
            "leaseDurationSeconds": DURATION,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": former.get("leaseTransitions", -1) + 1,
        }


def _renewal(spec: Any) -> Renewal | None:
    try:
        ahead = datetime.fromisoformat(spec["renewTime"]) - datetime.now(UTC)
        return Renewal(spec["holderIdentity"], ahead)
    except (KeyError, TypeError, ValueError):
        return None
