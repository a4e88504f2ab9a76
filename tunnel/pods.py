"""The pods of this node: which are served, and which could not be yet."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from tunnel._core import Core
from tunnel.counters import Counters
from tunnel.settings import Info

log = logging.getLogger("warren.pods")

RETRY_EVERY = 5.0  # seconds, as ztunnel
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET = 0x40000000


class PodError(Exception):
    """A pod cannot be served, or what was asked makes no sense; the text is for the agent."""


@dataclass(frozen=True)
class _Pod:
    """`netns`: device and inode, which tell network namespaces apart as long as one of them is held open."""

    info: Info
    netns: tuple[int, int]


@dataclass(frozen=True)
class _Waiting:
    """A pod that could not be served. `descriptor`: of its network namespace, ours to close."""

    pod: _Pod
    descriptor: int
    error: str


class Pods:
    """Starts and stops serving pods.

    They go on while the agent is away: only what it says ends them. `identities_changed` is called with all
    SPIFFE ids in use after each change of them.
    """

    def __init__(
        self,
        core: Core,
        trust_domain: str,
        counters: Counters,
        identities_changed: Callable[[set[str]], None],
    ) -> None:
        self._core = core
        self._trust_domain = trust_domain
        self._counters = counters
        self._identities_changed = identities_changed
        self._served: dict[str, _Pod] = {}
        self._pending: dict[str, _Waiting] = {}
        self._starting: set[tuple[int, int]] = set()
        self._changing = asyncio.Lock()

    @property
    def pending(self) -> dict[str, str]:
        """The pods that could not be served yet, by `namespace/name`, and why."""
        return {str(waiting.pod.info): waiting.error for waiting in self._pending.values()}

    @property
    def served(self) -> int:
        """How many are."""
        return len(self._served)

    @property
    def namespaces(self) -> set[int]:
        """The inodes of the network namespaces in which pods are served, or are about to be."""
        return {inode for _, inode in self._starting | {pod.netns for pod in self._served.values()}}

    async def serve(self, left: list[tuple[int, int, int]]) -> None:
        """Listen in all pods, with what another process has left: (namespace's inode, port, descriptor)."""
        async with self._changing:
            for uid, error in await asyncio.to_thread(self._core.serve, left):
                log.error("pod %s cannot be served: %s", self._served[uid].info, error)

    async def retire(self) -> None:
        """Listen in no pod any more; what is open goes on."""
        async with self._changing:
            await asyncio.to_thread(self._core.retire)

    def knows(self, uid: str) -> bool:
        """Whether the pod is served, or will be as soon as it can."""
        return uid in self._served or uid in self._pending

    async def add(self, uid: str, info: Info, netns: int) -> None:
        """Serve a pod inside the network namespace with that descriptor, which stays the caller's.

        One that is served there already is left alone, one that moved is served anew. Raises PodError;
        a pod that cannot be served is tried again until it is removed.
        """
        pod = _Pod(info, _network_namespace(netns))
        async with self._changing:
            if self._served.get(uid) == pod:
                return
            await self._drop(uid)
            error = await self._start(uid, pod, netns)
            if error:
                self._pending[uid] = _Waiting(pod, os.dup(netns), error)
            self._changed()
        if error:
            raise PodError(error)

    async def remove(self, uid: str, *, drain: bool = False) -> None:
        """Stop serving a pod: at once, or when what is open has ended. An unknown one is no error."""
        async with self._changing:
            await self._drop(uid, drain)
            self._changed()

    async def keep_only(self, uids: set[str]) -> None:
        """Remove every pod that is not among `uids`."""
        for uid in (self._served.keys() | self._pending.keys()) - uids:
            await self.remove(uid)

    async def retry_forever(self, every: float = RETRY_EVERY) -> None:
        """Try pending pods again; `every` is in seconds."""
        while True:
            await asyncio.sleep(every)
            for uid in [*self._pending]:
                await self._retry(uid)

    async def _retry(self, uid: str) -> None:
        async with self._changing:
            if uid not in self._pending:
                return
            waiting = self._pending[uid]
            if not await self._start(uid, waiting.pod, waiting.descriptor):
                del self._pending[uid]
                os.close(waiting.descriptor)
                self._changed()

    async def _start(self, uid: str, pod: _Pod, netns: int) -> str:
        """Serve a pod; gives what went wrong, or nothing."""
        info = pod.info
        who = (info.name, info.namespace, info.service_account, self._trust_domain)
        self._starting.add(pod.netns)
        try:
            await asyncio.to_thread(self._core.add_pod, uid, netns, *who)
        except OSError as error:
            self._starting.discard(pod.netns)
            text = f"pod {info} cannot be served: {error}"
            log.warning("%s; retrying every %g s", text, RETRY_EVERY)
            return text
        self._served[uid] = pod
        self._starting.discard(pod.netns)
        log.info("serving pod %s", info)
        return ""

    async def _drop(self, uid: str, drain: bool = False) -> None:
        if found := self._pending.pop(uid, None):
            os.close(found.descriptor)
        if served := self._served.pop(uid, None):
            await asyncio.to_thread(self._core.remove_pod, uid, drain)
            log.info("stopped serving pod %s", served.info)

    def _changed(self) -> None:
        self._counters.pods.set(len(self._served))
        self._counters.pods_pending.set(len(self._pending))
        pods = [*self._served.values(), *(waiting.pod for waiting in self._pending.values())]
        self._identities_changed({self._identity(pod.info) for pod in pods})

    def _identity(self, info: Info) -> str:
        return f"spiffe://{self._trust_domain}/ns/{info.namespace}/sa/{info.service_account}"


def _network_namespace(descriptor: int) -> tuple[int, int]:
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError as error:
        raise PodError("the descriptor is not a network namespace") from error
    if kind != _CLONE_NEWNET:
        raise PodError("the descriptor is a namespace, but not a network namespace")
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
