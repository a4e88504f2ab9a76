"""`kube`: the objects of an API server, each kind followed by a watch."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import NamedTuple

from agent.kube.client import Client, path_of
from agent.kube.listwatch import Event
from agent.kube.watch import Watcher
from agent.model.kinds import KINDS, Kind
from agent.model.objects import Key, Object
from agent.sources.definitions import Definitions, custom
from agent.sources.kept import Kept
from agent.sources.source import Changes, Health

log = logging.getLogger(__name__)

_SETTLE = 0.005  # seconds: what changes at once is told at once
_PACE = 0.05  # seconds at least from one telling to the next: telling costs more than what is told


class Rejected(NamedTuple):
    """An object that is not used; with no name in its key, a kind."""

    key: Key
    reason: str

    def __str__(self) -> str:
        return f"{self.key if self.key.name else self.key.kind}: {self.reason}"


class Following(NamedTuple):
    """A kind that is followed."""

    kept: Kept
    watcher: Watcher


class Kube:
    """All objects of some kinds. One that is absent or forbidden is named once, and read when it is not."""

    def __init__(self, client: Client, kinds: Iterable[Kind] = tuple(KINDS.values())) -> None:
        self._client = client
        self._kinds = tuple(kinds)
        self._definitions = Definitions(client, self._arrange)
        self._lock = threading.Lock()  # of what follows; each watch has a thread
        self._followed: dict[str, Following] = {}
        self._pending: dict[Key, Object | None] = {}
        self._listed: set[str] = set()  # kinds of which all objects are pending, or have been taken
        self._away: set[str] = set()
        self._away_since = time.monotonic()
        self._restarts: Counter[str] = Counter()  # of watches that have ended
        self._awake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def rejected(self) -> list[Rejected]:
        """Objects that are refused, and kinds that are forbidden."""
        found = []
        for kept, watcher in self.following:
            if watcher.state == "forbidden":
                found.append(Rejected(Key(kept.kind.name, "", ""), str(watcher.error)))
            if kept.kind.type:
                found += [Rejected(kept.key(name), told.message) for name, told in [*kept.verdicts.items()]]
        return found

    @property
    def complete(self) -> bool:
        """Whether all objects are known and used."""
        return self._known() and not self.rejected

    @property
    def health(self) -> Health:
        following = self.following
        restarts = sum((one.watcher.restarts for one in following), self._restarts + Counter())
        states = {kind.name: "absent" for kind in self._kinds}
        states |= {one.kept.kind.name: one.watcher.state for one in following}
        age = time.monotonic() - self._away_since if self._away or not self._known() else 0.0
        return Health(age, restarts, states)

    @property
    def following(self) -> list[Following]:
        """The kinds that are there, with what is known of each."""
        with self._lock:
            return [*self._followed.values()]

    async def changes(self) -> AsyncGenerator[Changes, None]:
        """First everything, once all kinds are listed; then what is different, in order for each object."""
        self._loop = asyncio.get_running_loop()
        if any(custom(kind) for kind in self._kinds):
            self._definitions.watcher.start()
        self._arrange()
        while not self._known():
            await self._awake.wait()
            self._awake.clear()
        if absent := [kind.name for kind in self._kinds if not self._definitions.has(kind)]:
            log.info("kinds that the cluster does not have: %s", ", ".join(absent))
        rejected, told = self.rejected, time.monotonic()
        yield self._take()
        while True:
            await self._awake.wait()
            await asyncio.sleep(max(_SETTLE, told + _PACE - time.monotonic()))
            self._awake.clear()
            told, changes = time.monotonic(), self._take()
            rejected, former = self.rejected, rejected
            if changes or rejected != former:
                yield changes

    def follow(self, kinds: Iterable[Kind]) -> None:
        """Read these kinds from now on; what was known of others is told to be gone."""
        self._kinds = tuple(kinds)
        self._arrange()

    def close(self) -> None:
        self._kinds = ()
        self._loop = None
        self._definitions.watcher.stop()
        self._arrange()
        self._client.close()

    def _known(self) -> bool:
        """Whether it is known what there is of each kind, or that this cannot be known."""
        return all(
            one.kept.kind.name in self._listed or one.watcher.state in ("absent", "forbidden")
            for one in self.following
        ) and (self._definitions.known or not any(custom(kind) for kind in self._kinds))

    def _arrange(self) -> None:
        """Follow the kinds that are wanted and there, and no others."""
        there = {kind.name: kind for kind in self._kinds if self._definitions.has(kind)}
        with self._lock:
            for name in self._followed.keys() - there.keys():
                self._leave(name)
            for name in there.keys() - self._followed.keys():
                self._join(there[name])
        self._wake()

    def _join(self, kind: Kind) -> None:
        kept = Kept(kind)
        paths = [_path(kind, version) for version in kind.versions]
        noted = partial(self._noted, kind.name)
        watcher = Watcher(self._client, paths, partial(self._told, kept), noted, metadata=kind.type is None)
        self._followed[kind.name] = Following(kept, watcher)
        watcher.start()

    def _leave(self, name: str) -> None:
        kept, watcher = self._followed.pop(name)
        watcher.stop()
        self._restarts += watcher.restarts
        self._away.discard(name)
        self._listed.discard(name)
        self._pending.update(kept.clear())
        if kept.kind.type and self._kinds:
            log.warning("kind %s is not there any more, nor its objects", name)

    def _told(self, kept: Kept, events: Iterable[Event]) -> None:
        """Take what a watch told, in its thread."""
        name, judged = kept.kind.name, kept.judged
        changes = list(kept.take(events))
        with self._lock:
            followed = self._followed.get(name)
            if followed is None or followed.kept is not kept:
                return  # it has been left in the meantime
            self._pending.update(changes)
            # Only now: whoever sees that all are listed finds them pending.
            listed = kept.listed and name not in self._listed
            if listed:
                self._listed.add(name)
        if changes or listed or judged != kept.judged:
            self._wake()

    def _noted(self, name: str) -> None:
        """See to a watch that is in another state, in its thread."""
        with self._lock:
            if name not in self._followed:
                return
            watcher = self._followed[name].watcher
            before = bool(self._away)
            (self._away.add if watcher.state == "away" else self._away.discard)(name)
            after = bool(self._away)
            if after and not before:
                self._away_since = time.monotonic()
            others = [self._definitions.watcher, *(self._followed[other].watcher for other in self._away)]
        if watcher.state in ("absent", "forbidden"):
            log.warning("kind %s is %s: %s", name, watcher.state, watcher.error)
        elif after and not before:
            log.error("source away, the last good state stays in force: %s", watcher.error)
        elif before and not after:
            log.info("source is back")
        if before and watcher.state == "current":
            for other in others:
                other.hasten()
        self._wake()

    def _take(self) -> Changes:
        with self._lock:
            changes, self._pending = self._pending, {}
        return list(changes.items())

    def _wake(self) -> None:
        if loop := self._loop:
            with contextlib.suppress(RuntimeError):  # it ended a moment ago
                loop.call_soon_threadsafe(self._awake.set)


def _path(kind: Kind, version: str) -> str:
    group = ("apis", kind.group) if kind.group else ("api",)
    return path_of(*group, version, kind.plural)
