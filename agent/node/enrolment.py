"""Makes the pods that are captured on this node those that should be, and keeps trying.

One worker for each pod does the steps in the order that `Datapath` names. A pod whose tunnel does not answer,
or whose routing fails, is captured all the same: its traffic is refused rather than sent in the clear.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec import Struct

from agent.errors import WarrenError, describe
from agent.node import routing
from agent.node.errors import NodeError, NoNamespace
from agent.node.netns import NetnsFd
from agent.node.state import Address, Cookie, PodState

log = logging.getLogger(__name__)

T = TypeVar("T")
_ANSWER = 5.0  # seconds that the tunnels get before a pod is captured without their word
_FIRST_RETRY, _LAST_RETRY = 0.1, 15.0  # seconds
_DRAIN_LOOK = 0.5  # seconds


class Sandbox(Struct, frozen=True):
    """A pod of this node that is to be captured. `uid` is never used again for another one.

    container: the runtime's id of the sandbox, with another one of which the pod has another namespace; empty
    where no runtime told. probe_ports: where the kubelet reaches the pod in the clear.
    """

    uid: str
    name: str
    namespace: str
    service_account: str
    netns: Path
    addresses: tuple[Address, ...]
    container: str = ""
    probe_ports: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Redirection(Protocol):
    """What is needed of a `Datapath`."""

    def prepare(self, netns: NetnsFd, addresses: Sequence[Address]) -> Cookie: ...
    def let_probes(self, cookie: Cookie, ports: Collection[int]) -> None: ...
    def capture(self, netns: NetnsFd, cookie: Cookie) -> None: ...
    def release(self, cookie: Cookie) -> None: ...
    def carries(self, netns: NetnsFd) -> bool: ...
    def forget(self, cookie: Cookie) -> None: ...
    def pods(self) -> dict[Cookie, PodState]: ...


class Remove(Protocol):
    """Of a pod, by its uid."""

    def __call__(self, uid: str, /, *, drain: bool = False) -> Awaitable[None]: ...


class Tunnels(Struct, frozen=True):
    """How the tunnels hear of pods; both wait for their answers, `add` raises what they refuse.

    `remove` with `drain` lets what is open go on.
    """

    add: Callable[[Sandbox, NetnsFd], Awaitable[None]]
    remove: Remove


class Held(Struct):
    """A pod that the kernel knows. `done`: every step has been taken."""

    sandbox: Sandbox
    netns: NetnsFd
    cookie: Cookie
    done: bool = False


class Enrolment:
    """`want` the pods that are to be captured. What fails is in `failing`, and is tried again."""

    def __init__(self, redirection: Redirection, tunnels: Tunnels, proc: Path = Path("/proc")) -> None:
        """proc: a procfs that can be written to."""
        self._proc = proc
        self.failing: dict[str, str] = {}  # by uid, one line
        self._redirection = redirection
        self._tunnels = tunnels
        self._wanted: dict[str, Sandbox] = {}
        self._held: dict[str, Held] = {}
        self._going: set[str] = set()  # containers
        self._ending = False
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._progress = asyncio.Condition()
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        # The kernel's side is not to be changed by two at once, nor to hold the event loop up.
        self._kernel = ThreadPoolExecutor(1, "kernel")

    def want(self, sandboxes: Iterable[Sandbox]) -> None:
        """Exactly these are to be captured from now on."""
        wanted = {sandbox.uid: sandbox for sandbox in sandboxes}
        former, self._wanted = self._wanted, wanted
        for uid in wanted.keys() | former.keys():
            if wanted.get(uid) == former.get(uid):
                continue
            self.failing.pop(uid, None)  # what is said of it there says nothing of it here
            if worker := self._news.get(uid):
                worker.set()
            else:
                self._start(uid)

    async def tried(self) -> None:
        """Wait until every pod that is wanted is captured, or has failed to be."""
        async with self._progress:
            await self._progress.wait_for(lambda: all(self._was_tried(uid) for uid in self._wanted))

    async def captured(self, uid: str, within: float) -> str:
        """Wait until a pod is captured, is not to be any more, or cannot be: why; empty if nothing failed."""
        settled = await self._wait(lambda: self._settled(uid) or uid in self.failing, within)
        return self.failing.get(uid, "" if settled else f"not captured within {within:.0f} s")

    async def released(self, container: str, within: float) -> None:
        """Wait until nothing is held of a sandbox that is about to go, or the time is over.

        What is open in it does not go on.
        """
        if any(held.sandbox.container == container for held in self._held.values()):
            self._going.add(container)
            self._wake()
        await self._wait(lambda: all(h.sandbox.container != container for h in self._held.values()), within)

    async def release_all(self, within: float) -> list[str]:
        """Have no pod captured any more; gives the names of those that are, when the time is over.

        What is open does not go on: the tunnels go, too.
        """
        self._ending = True
        self.want(())
        self._wake()
        await self._wait(lambda: not self._held, within)
        return [str(held.sandbox) for held in self._held.values()]

    async def sweep(
        self, others: Iterable[Path], uncertain: Iterable[Path] = (), lost: Set[Address] = frozenset()
    ) -> None:
        """Release what the kernel has captured and nobody wants: what went away while no agent was here.

        `others` are the namespaces of pods that are here and not to be captured: their routing is undone.
        `uncertain` are those of pods that may be wanted: they are left as they are. So is what has one of the
        `lost` addresses, of pods that are wanted while nobody says where they are.
        Waits until the kernel knows all that is wanted, for until then it cannot be told from the rest.
        Raises NodeError, OSError.
        """
        async with self._progress:
            await self._progress.wait_for(lambda: self._wanted.keys() <= self._held.keys())
        known = await self.in_kernel(self._redirection.pods)
        strays = known.keys() - {held.cookie for held in self._held.values()}
        strays -= await self.in_kernel(lambda: {*_cookies(uncertain)})
        strays -= {one for one in strays if known[one].netns and not lost.isdisjoint(known[one].addresses)}
        await self.in_kernel(lambda: self._release(strays, others))

    async def in_kernel(self, action: Callable[[], T]) -> T:
        """What `action` gives, alone with the kernel: no step of any pod is taken meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._kernel, action)

    def enrolled(self) -> int:
        """How many pods are captured."""
        return len(self.held())

    def wanted(self) -> Collection[Sandbox]:
        """The pods that are to be captured."""
        return self._wanted.values()

    def held(self) -> dict[str, Held]:
        """Those for which every step has been taken, by uid. Any thread may ask."""
        return {uid: held for uid, held in tuple(self._held.items()) if held.done}

    def again(self, uid: str) -> None:
        """Take every step once more: somebody has undone one. Nothing to do where that goes on already."""
        if uid in self._held and uid not in self._workers:
            self._held[uid].done = False
            self._start(uid)

    def _start(self, uid: str) -> None:
        self._news[uid] = asyncio.Event()
        self._workers[uid] = asyncio.create_task(self._work(uid))

    async def close(self) -> None:
        """Stop working. What is captured stays so."""
        for worker in self._workers.values():
            worker.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        self._kernel.shutdown()

    async def _wait(self, condition: Callable[[], bool], within: float) -> bool:
        """Whether it came true in time."""
        try:
            async with asyncio.timeout(within), self._progress:
                return await self._progress.wait_for(condition)
        except TimeoutError:
            return False

    async def _work(self, uid: str) -> None:
        """Take one pod to where it should be, however often that changes meanwhile."""
        pause = _FIRST_RETRY
        news = self._news[uid]
        while not self._settled(uid):
            news.clear()
            try:
                await self._step(uid)
                self.failing.pop(uid, None)
                pause = _FIRST_RETRY
            except (WarrenError, OSError) as error:
                name = self._wanted.get(uid) or self._held[uid].sandbox
                log.warning("pod %s: %s; trying again", name, describe(error))
                self.failing[uid] = f"{name}: {describe(error)}"
                await _pause(news, pause)
                pause = min(2 * pause, _LAST_RETRY)
            finally:
                async with self._progress:
                    self._progress.notify_all()
        self.failing.pop(uid, None)
        del self._workers[uid], self._news[uid]
        async with self._progress:
            self._progress.notify_all()

    def _was_tried(self, uid: str) -> bool:
        held = self._held.get(uid)
        return uid in self.failing or (held is not None and held.done)

    def _settled(self, uid: str) -> bool:
        wanted, held = self._wanted.get(uid), self._held.get(uid)
        return held is None if wanted is None else held is not None and held.done and held.sandbox == wanted

    async def _step(self, uid: str) -> None:
        wanted, held = self._wanted.get(uid), self._held.get(uid)
        if held and (wanted is None or _moved(held, wanted)):
            async with self._using(held.sandbox.netns):
                await self._leave(held)
        elif wanted:
            async with self._using(wanted.netns):
                await self._enter(wanted, held)

    def _using(self, netns: Path) -> asyncio.Lock:
        """One step at a time in a namespace that two pods name: one that goes, and one in its place."""
        return self._locks.setdefault(netns, asyncio.Lock())

    async def _enter(self, sandbox: Sandbox, held: Held | None) -> None:
        """Raises what went wrong after all that can be done is done."""
        netns = held.netns if held else await self.in_kernel(lambda: NetnsFd.open(sandbox.netns))
        cookie = await self.in_kernel(lambda: self._redirection.prepare(netns, sandbox.addresses))
        held = self._held[sandbox.uid] = Held(sandbox, netns, cookie)
        errors = []
        for step in (self._let_probes, self._route, self._announce):
            try:
                await step(held)
            except (WarrenError, OSError) as error:
                errors.append(error)
        await self.in_kernel(lambda: self._redirection.capture(netns, cookie))
        if errors:
            raise errors[0]
        held.done = True
        log.info("pod %s is captured", sandbox)

    async def _leave(self, held: Held) -> None:
        sandbox, cookie = held.sandbox, held.cookie
        held.done = False
        alone = all(other is held or other.cookie != cookie for other in self._held.values())
        if alone:
            await self.in_kernel(lambda: self._redirection.release(cookie))
        drain = alone and self._stays(held)
        await _bounded(self._tunnels.remove(sandbox.uid, drain=drain))
        if drain and not await self._drained(held):
            return
        if alone:
            await self.in_kernel(lambda: routing.remove(held.netns, self._proc))
            await self.in_kernel(lambda: self._redirection.forget(cookie))
        del self._held[sandbox.uid]
        self._going.discard(sandbox.container)
        await self.in_kernel(held.netns.close)  # where nobody is looking into it
        log.info("pod %s is released", sandbox)

    def _stays(self, held: Held) -> bool:
        """Whether the pod only leaves the mesh: what is open in it may go on."""
        sandbox, wanted = held.sandbox, self._wanted.get(held.sandbox.uid)
        going = self._ending or sandbox.container in self._going or (wanted and _moved(held, wanted))
        return not going and held.netns.is_at(sandbox.netns)

    async def _drained(self, held: Held) -> bool:
        """Wait until no tunnel has connections in the pod any more; false if it is to be captured again."""
        uid = held.sandbox.uid
        while self._stays(held) and await self.in_kernel(lambda: self._redirection.carries(held.netns)):
            if uid in self._wanted:
                return False
            self._news[uid].clear()
            await _pause(self._news[uid], _DRAIN_LOOK)
        return True

    def _wake(self) -> None:
        """Have the workers look again."""
        for news in self._news.values():
            news.set()

    async def _let_probes(self, held: Held) -> None:
        await self.in_kernel(lambda: self._redirection.let_probes(held.cookie, held.sandbox.probe_ports))

    async def _route(self, held: Held) -> None:
        await self.in_kernel(lambda: routing.install(held.netns, self._proc))

    async def _announce(self, held: Held) -> None:
        if not await _bounded(self._tunnels.add(held.sandbox, held.netns)):
            raise WarrenError(f"no answer from the tunnel within {_ANSWER:.0f} s")

    def _release(self, strays: Set[Cookie], others: Iterable[Path]) -> None:
        for cookie in strays:
            log.info("releasing the pod with netns cookie %d: deleted while the agent was down", cookie)
            self._redirection.release(cookie)
        for path in others if strays else ():
            with contextlib.suppress(NodeError):  # its namespace has gone as well, and its routing with it
                netns = NetnsFd.open(path)
                if netns.cookie() in strays:
                    routing.remove(netns, self._proc)
        for cookie in strays:
            self._redirection.forget(cookie)


def _moved(held: Held, wanted: Sandbox) -> bool:
    """Whether the pod has another namespace; a runtime may only have told of the one that it has."""
    was = held.sandbox
    same = (was.netns, was.container) == (wanted.netns, wanted.container)
    return not same and not held.netns.is_at(wanted.netns)


def _cookies(places: Iterable[Path]) -> Iterator[Cookie]:
    """Of the namespaces that are still there. Raises NodeError, OSError."""
    for path in places:
        with contextlib.suppress(NoNamespace), contextlib.closing(NetnsFd.open(path)) as netns:
            yield Cookie(netns.cookie())


async def _bounded(work: Awaitable[None]) -> bool:
    """Whether it was done in time."""
    try:
        async with asyncio.timeout(_ANSWER):
            await work
        return True
    except TimeoutError:
        return False


async def _pause(news: asyncio.Event, pause: float) -> None:
    try:
        async with asyncio.timeout(pause):
            await news.wait()
    except TimeoutError:
        return
