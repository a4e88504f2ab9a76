"""A generation of a node's tunnel: it takes its listeners from the one before, and leaves them to the next.

The keeper (`tunnel.keeper`) says when. While there is none, everything goes on as it is.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import Any, Protocol

from protocols.report import Generation, Stage
from tunnel import handover
from tunnel._core import Core, __version__
from tunnel.handover import DESCRIPTORS, Place, Places
from tunnel.kept import Kept
from tunnel.packets import PacketError, receive
from tunnel.retired import counted, leave, left
from tunnel.usage import usage

log = logging.getLogger("warren.succession")

_LOOK = 0.02  # seconds between two looks for a keeper, or at whether we are ready
_KEEP = 1.0  # seconds between two looks for new listeners
_FADE = 0.2  # seconds between two looks at whether all connections have ended
_REPORT = 5.0  # seconds between two reports to the keeper


class Served(Protocol):
    """What is to be done with the pods."""

    async def serve(self, left: list[tuple[int, int, int]]) -> None: ...

    async def retire(self) -> None: ...

    @property
    def namespaces(self) -> set[int]:
        """The inodes of the served pods' network namespaces."""


class Succession:
    """Follows the keeper's word. `begin` is called once when it is our turn, `end` when it is no more.

    age: seconds for which connections may go on after that. outlasts: the process may outlast its container.
    `pending`: what is missing before it may be our turn; `stop` ends the process.
    """

    def __init__(
        self,
        core: Core,
        pods: Served,
        places: Places,
        number: int,
        age: float,
        *,
        outlasts: bool,
        pending: Callable[[], list[str]],
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        stop: Callable[[], None],
    ) -> None:
        self._core, self._pods, self._places, self._age = core, pods, places, age
        self._pending, self._begin, self._end, self._stop = pending, begin, end, stop
        self._number, self._outlasts = number, outlasts
        self._stage = Stage.STANDBY
        self._retired = 0.0  # Unix seconds
        self._left: list[tuple[Place, int]] = []
        self._kept = Kept()
        self._news = asyncio.Event()
        self._leaving = threading.Lock()
        self.generations: list[Generation] = []
        self.failure: OSError | None = None  # for which we ended
        self._lock = os.open(places.generation(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    async def run(self) -> None:
        """Follow the keeper, and the one after it."""
        try:
            await self._run()
        finally:
            self._kept.close_all()

    async def _run(self) -> None:
        alone_since = time.monotonic()
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as keeper:
                try:
                    keeper.connect(str(self._places.socket))
                    await self._follow(keeper)
                    alone_since = time.monotonic()
                except PacketError as error:
                    log.warning("the keeper at %s: %s", self._places.socket, error)
                except OSError:
                    pass  # there is none
            if self._stage is Stage.STANDBY:
                log.error("ended: the keeper has gone before it was our turn")
                return self._stop()
            if await self._is_over(alone_since):
                return self._stop()
            await asyncio.sleep(_LOOK)

    def look(self) -> None:
        """Pods have changed: there may be other listeners."""
        self._news.set()

    def retired(self) -> dict[int, str]:
        """What generations have counted that serve no more."""
        return left(self._places)

    def close(self) -> None:
        """The process ends: nobody is to wait for it."""
        if self._stage is not Stage.STANDBY:
            self._leave_metrics()
        self._places.generation(self._number).unlink(missing_ok=True)

    def _leave_metrics(self) -> None:
        try:
            with self._leaving:  # what was counted last counts
                leave(self._places, self._number, counted(self._core))
        except OSError as error:
            log.warning("what generation %d has counted is lost: %s", self._number, error)

    async def _is_over(self, alone_since: float) -> bool:
        """Without a keeper nobody follows us: we go on as long as we are of use, and not for ever."""
        idle = not self._pods.namespaces and await asyncio.to_thread(self._core.open) == 0
        return idle or time.monotonic() - alone_since > self._age

    async def _follow(self, keeper: socket.socket) -> None:
        keeper.setblocking(False)
        if not handover.is_one_of_us(keeper):
            raise PacketError("it is another user's process")
        handover.send(keeper, "hello", {**asdict(await self._self()), "handover": handover.VERSION})
        handover.send_listeners(keeper, "kept", [*self._kept])
        telling = asyncio.create_task(self._tell(keeper))
        try:
            while True:
                packet, fds = await receive(keeper, DESCRIPTORS)
                if not packet:
                    return
                await self._obey(keeper, *handover.decode(packet), fds)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _obey(self, keeper: socket.socket, kind: str, fields: dict[str, Any], fds: list[int]) -> None:
        match kind:
            case "output" if len(fds) == 2:
                for fd, standard in zip(fds, (1, 2), strict=True):
                    os.dup2(fd, standard)
                    os.close(fd)
            case "left":
                self._left = [*self._left, *handover.listeners_of(fields, fds)]
            case "serve":
                await self._serve(keeper, alone=bool(fields.get("alone", not self._left)))
            case "retire":
                await self._retire(keeper)
            case "others":
                self.generations = [handover.generation(one) for one in fields.get("all", ())]
            case _:
                for fd in fds:
                    os.close(fd)

    async def _serve(self, keeper: socket.socket, *, alone: bool) -> None:
        left, self._left = self._left, []
        self._stage = Stage.SERVING
        await self._pods.serve([(netns, port, fd) for (netns, port), fd in left])
        self._keep(keeper)
        handover.send(keeper, "serving")
        log.info("generation %d serves, with %d listeners of the one before", self._number, len(left))
        self._beginning = asyncio.create_task(self._answer(first=alone))

    async def _answer(self, *, first: bool) -> None:
        """Open our own ports: without them a first generation is of no use, a later one serves pods still."""
        while self._stage is Stage.SERVING:
            try:
                return await self._begin()
            except OSError as error:
                if first:
                    self.failure = error
                    return self._stop()
                log.error("%s", error)
                await asyncio.sleep(_KEEP)

    async def _retire(self, keeper: socket.socket) -> None:
        self._stage, self._retired = Stage.RETIRED, time.time()
        await self._pods.retire()
        self._keep(keeper)  # with what is left in the end alone
        await self._end()
        self._kept.close_all()
        handover.send(keeper, "retired")
        await asyncio.to_thread(self._leave_metrics)
        handover.send(keeper, "open", asdict(await self._self()))
        log.info("generation %d is retired: what is open goes on", self._number)
        self._fading = asyncio.create_task(self._fade())

    async def _fade(self) -> None:
        """End with the last connection, or at our age."""
        deadline = time.monotonic() + self._age
        while time.monotonic() < deadline and await asyncio.to_thread(self._core.open) > 0:  # noqa: ASYNC110
            await asyncio.sleep(_FADE)
        self._stop()

    async def _tell(self, keeper: socket.socket) -> None:
        """Tell the keeper of what changes here."""
        ready, reported = False, 0.0
        while True:
            if self._stage is Stage.STANDBY and not ready and not self._pending():
                ready = True
                handover.send(keeper, "ready")
            if self._stage is Stage.SERVING:
                self._keep(keeper)
            if time.monotonic() - reported >= _REPORT:
                reported = time.monotonic()
                handover.send(keeper, "open", asdict(await self._self()))
                if self._stage is Stage.RETIRED:
                    await asyncio.to_thread(self._leave_metrics)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK if self._stage is Stage.STANDBY else _KEEP)
            self._news.clear()

    def _keep(self, keeper: socket.socket) -> None:
        """Give what is new to the keeper, and have it close what is gone."""
        new = [((netns, port), fd) for netns, port, fd in self._core.listeners()]
        self._kept.add(new)
        handover.send_listeners(keeper, "kept", new)
        for netns in self._kept.namespaces - self._pods.namespaces:
            self._kept.close(netns)
            handover.send(keeper, "closed", {"netns": netns})

    async def _self(self) -> Generation:
        connections = await asyncio.to_thread(self._core.open)
        me = (self._number, os.getpid(), __version__, self._stage, connections)
        ends = self._retired and self._retired + self._age
        used = usage()._asdict()
        return Generation(*me, **used, retired=self._retired, ends=ends, outlasts=self._outlasts)


def lines(generations: Iterable[Generation]) -> Iterable[str]:
    """Metrics of all generations, by their numbers."""
    kinds: tuple[tuple[str, str, str, Callable[[Generation], float]], ...] = (
        ("connections", "gauge", "Connections that are open.", lambda one: one.connections),
        ("resident_memory_bytes", "gauge", "Memory that is in use.", lambda one: one.resident),
        ("open_fds", "gauge", "File descriptors that are open.", lambda one: one.descriptors),
        ("start_time_seconds", "gauge", "Unix time of its start.", lambda one: one.since),
        ("cpu_seconds", "counter", "CPU time used, of user and system.", lambda one: one.cpu),
    )
    generations = list(generations)
    for name, kind, text, value in kinds:
        metric = f"warren_tunnel_generation_{name}"
        yield f"# HELP {metric} {text}"
        yield f"# TYPE {metric} {kind}"
        suffix = "_total" if kind == "counter" else ""
        for one in generations:
            labels = f'generation="{one.number}",stage="{one.stage}",version="{one.version}"'
            yield f"{metric}{suffix}{{{labels}}} {value(one)}"
