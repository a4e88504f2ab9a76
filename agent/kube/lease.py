"""One of several does it: leader election on a Lease of coordination.k8s.io/v1."""

import asyncio
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any

from agent.kube.client import Client, path_of
from agent.kube.errors import ApiError

log = logging.getLogger(__name__)

_TIMEOUT = 3.0  # seconds, for each of two requests
DURATION = 15  # seconds without a renewal after which another may take a lease
_RENEW = DURATION / 6  # seconds


class Lease:
    """A lease that `holder`, a name that no other has, tries to hold.

    Clocks of other machines are not trusted: a lease has run out when we have seen it unchanged for its
    duration. We ourselves stop to count on ours after two thirds of it.
    """

    def __init__(self, client: Client, namespace: str, name: str, holder: str) -> None:
        self._client = client
        self._path = path_of("apis", "coordination.k8s.io", "v1", "namespaces", namespace, "leases")
        self._name, self._namespace, self._holder = name, namespace, holder
        self._seen: tuple[str, float] = ("", 0.0)  # the version that is in force, and since when we know it
        self._until = 0.0
        self._failure = ""

    @property
    def held(self) -> bool:
        """Whether it is ours at this moment. Ask again before each thing that only one may do."""
        return time.monotonic() < self._until

    def attempt(self) -> bool:
        """Take it if it is free, renew it if it is ours; whether it is. Blocks. Raises ApiError."""
        started = time.monotonic()
        try:
            lease = self._read()
            if lease is None:
                body = {
                    "metadata": {"name": self._name, "namespace": self._namespace},
                    "spec": self._spec({}),
                }
                self._client.request("POST", self._path, body=body, timeout=_TIMEOUT)
            elif self._may_take(lease):
                lease["spec"] = self._spec(lease.get("spec") or {})
                self._client.request("PUT", f"{self._path}/{self._name}", body=lease, timeout=_TIMEOUT)
            else:
                self._until = 0.0
                return False
        except ApiError as error:
            if error.status != 409:
                raise
            self._until = 0.0  # another was faster
            return False
        self._until = started + DURATION * 2 / 3
        return True

    def release(self) -> None:
        """Let another have it at once, if it is ours. Blocks. Raises ApiError."""
        lease = self._read() if self.held else None
        self._until = 0.0
        if lease and lease["spec"].get("holderIdentity") == self._holder:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            self._client.request("PUT", f"{self._path}/{self._name}", body=lease, timeout=_TIMEOUT)

    async def keep(self, patience: float = _RENEW) -> None:
        """Try to hold it, until cancelled. What goes wrong is logged once, and tried again.

        patience: seconds between two looks at a lease that another holds; long where there are many of us.
        """
        while True:
            held, failure = self.held, ""
            try:
                await asyncio.to_thread(self.attempt)
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

    def _may_take(self, lease: Any) -> bool:
        version, now = lease["metadata"]["resourceVersion"], time.monotonic()
        if version != self._seen[0]:
            self._seen = version, now
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity", "") in ("", self._holder):
            return True
        return bool(now - self._seen[1] > spec.get("leaseDurationSeconds", DURATION))

    def _spec(self, former: Any) -> Any:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if former.get("holderIdentity") == self._holder:
            return {**former, "renewTime": now}
        return {
            **former,
            "holderIdentity": self._holder,
            "leaseDurationSeconds": DURATION,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": former.get("leaseTransitions", -1) + 1,
        }
