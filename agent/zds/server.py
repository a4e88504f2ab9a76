"""Tells tunnels which pods are on this node: `istio.workload.zds` over a Unix SEQPACKET socket.

Several tunnels may be connected at once (an upgrade), each told of all pods and then of changes, one message
at a time. What a tunnel has and what it should have are compared, so a slow one costs no queue.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from agent.errors import SettingsError, WarrenError
from agent.zds.tunnel import Local, Tunnel

log = logging.getLogger(__name__)

Trust = Callable[[int], Awaitable[None]]
_RETURN = 2.0  # seconds for tunnels to be back after our start: they look for us each second
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Refused(WarrenError):
    """A tunnel does not serve a pod, for the reason that it gave."""


class ZdsServer:
    """The pods of this node, for every tunnel that connects."""

    def __init__(self, path: Path, trust: Trust) -> None:
        """`trust` is called with a tunnel's process id before it is told anything; what it raises ends it."""
        self._path = path
        self._trust = trust
        self._pods: dict[str, Local] = {}
        self._staying: set[str] = set()  # uids of pods that have left the mesh, and are there
        self._tunnels: set[Tunnel] = set()
        self._progress = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._back = 0.0  # when tunnels that were here before us are back, in the loop's time

    async def start(self) -> None:
        """Listen, with mode 0600. Raises SettingsError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        former = os.umask(0o177)
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(self._path.lstat().st_mode):
                    self._path.unlink()
            listener.bind(str(self._path))
            listener.listen()
        except OSError as error:
            listener.close()
            reason = error.strerror or error
            raise SettingsError(f"--run-dir: cannot listen at {self._path}: {reason}") from error
        finally:
            os.umask(former)
        self._listener = listener
        self._back = asyncio.get_running_loop().time() + _RETURN
        self._spawn(self._accept(listener))
        log.info("serving pods on %s", self._path)

    async def stop(self) -> None:
        """Let all tunnels go; they keep their pods."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    async def add(self, pod: Local) -> None:
        """Tell of a pod, and wait until every tunnel has answered. Raises Refused, with the reasons.

        Right after our start there is none yet: a pod that starts then waits for the first one to be back.
        """
        self._pods[pod.uid] = pod
        self._staying.discard(pod.uid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._back), self._progress:
                await self._progress.wait_for(lambda: bool(self._tunnels))
        await self._settle(pod.uid)
        reasons = [f"tunnel {t.pid}: {t.refused[pod.uid]}" for t in self._tunnels if pod.uid in t.refused]
        if reasons:
            raise Refused("; ".join(reasons))

    async def remove(self, uid: str, *, drain: bool = False) -> None:
        """Tell that a pod is gone, and wait until every tunnel has answered.

        With `drain` it only leaves the mesh: its open connections go on. (ztunnel does as it likes.)
        """
        self._pods.pop(uid, None)
        (self._staying.add if drain else self._staying.discard)(uid)
        await self._settle(uid)

    def tunnels(self) -> Mapping[int, Mapping[str, str]]:
        """The tunnels that are connected, by process id; of each, the pods that it refused and why."""
        return {tunnel.pid: dict(tunnel.refused) for tunnel in self._tunnels}

    async def _settle(self, uid: str) -> None:
        for tunnel in self._tunnels:
            tunnel.look_at(uid)
        async with self._progress:
            await self._progress.wait_for(lambda: all(tunnel.knows(uid) for tunnel in self._tunnels))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._spawn(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        """One tunnel, until it goes."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        tunnel = Tunnel(connection, _CREDENTIALS.unpack(raw)[0], self._pods, self._staying)
        try:
            await tunnel.greet()
            await self._trust(tunnel.pid)
            log.info("tunnel %d is connected, %d pods to tell of", tunnel.pid, len(self._pods))
            self._tunnels.add(tunnel)
            await self._notify()
            await tunnel.follow(self._notify)
        except (OSError, WarrenError) as error:
            log.warning("closed ZDS connection from tunnel pid %d: %s", tunnel.pid, error)
        finally:
            connection.close()
            self._tunnels.discard(tunnel)
            await self._notify()

    async def _notify(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
