"""`kube`: the objects of an API server, each kind followed by a watch.

A critical kind (`agent.model.kinds`) is *synced* while it is listed and watched, or known to be absent. Until
all are, nothing is told. While one is not any more, for whatever reason, what was told stays in force, and of
what changes only that is told which opens nothing; the rest is held back until all kinds are synced again: a
policy that cannot be read may be for a workload that is new, or in the place of another policy that is gone.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from agent.kube.client import Client, path_of
from agent.kube.listwatch import Event
from agent.kube.watch import Watcher
from agent.model.engine.kind import Kind
from agent.model.kinds import KINDS
from agent.model.schema.objects import Key, Object
from agent.sources.absence import APART, Absence
from agent.sources.definitions import Definitions, custom
from agent.sources.kind_cache import KindCache
from agent.sources.source import Changes, Health

log = logging.getLogger(__name__)

_SETTLE = 0.005  # seconds: what changes at once is told at once
_PACE = 0.05  # seconds at least from one telling to the next: telling costs more than what is told
_RESTORED_ONCE = (
    60.0  # seconds in which all kinds are listed again once, however many find the server restored
)


class Rejected(NamedTuple):
    """An object that is not used; with no name in its key, a kind."""

    key: Key
    reason: str

    def __str__(self) -> str:
        return f"{self.key if self.key.name else self.key.kind}: {self.reason}"


class Following(NamedTuple):
    """A kind that is followed."""

    cache: KindCache
    watcher: Watcher


class Kube:
    """All objects of some kinds. One that is absent or forbidden is named once, and read when it is not."""

    def __init__(
        self,
        client: Client,
        kinds: Iterable[Kind] = tuple(KINDS.values()),
        harmless: Callable[[Key, Object | None], bool] = lambda key, item: False,
        noticed: Callable[[Key], None] = lambda key: None,
        fields: Mapping[str, str] = {},
        *,
        listed: Callable[[Changes], None] = lambda changes: None,
    ) -> None:
        """harmless: whether a changed object (None: gone) opens nothing, whatever policies there are.

        noticed: of an object there may be something else to say; called by a watch's thread.

        fields: by a kind's name, the field selector of the objects that are wanted; none: all.

        listed: told once what is listed of all kinds that are served, where it is not known yet whether that
        is all there is; `changes` tells it again.
        """
        self._client = client
        self._kinds = tuple(kinds)
        self._harmless, self._noticed, self._fields = harmless, noticed, fields
        self._when_listed: Callable[[Changes], None] | None = listed
        self._definitions = Definitions(client, self._arrange, self._went_back)
        self._absence = Absence(client, self._doubted, self._arrange)
        self._lock = threading.Lock()  # of what follows; each watch has a thread
        self._followed: dict[str, Following] = {}
        self._defined: frozenset[str] = frozenset()
        self._pending: dict[Key, Object | None] = {}
        self._listed: set[str] = set()  # kinds of which all objects are pending, or have been taken
        self._away: set[str] = set()
        self._complained: set[str] = set()  # kinds that cannot be read
        self._rejected: tuple[list[Any], list[Rejected]] = [], []
        self._restored_at = -math.inf
        self._began = time.monotonic()
        self._restarts: Counter[str] = Counter()  # of watches that have ended
        self._awake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def rejected(self) -> list[Rejected]:
        """Objects that are refused, and kinds that are forbidden. The same list until that changes."""
        following = self.following
        # Thousands of objects may be refused, and this is asked with each change.
        version = [(one.cache, one.cache.judged, one.watcher.error) for one in following]
        if version != self._rejected[0]:
            self._rejected = version, [*_rejected(following)]
        return self._rejected[1]

    @property
    def unsynced(self) -> dict[str, str]:
        """The critical kinds of which it is not known what there is: why, and what to do."""
        following = {one.cache.kind.name: one for one in self.following}
        critical = (kind for kind in self._kinds if kind.critical)
        return {kind.name: why for kind in critical if (why := self._why(kind, following.get(kind.name)))}

    @property
    def health(self) -> Health:
        following = self.following
        restarts = sum((one.watcher.restarts for one in following), self._restarts + Counter())
        unsynced = self.unsynced
        states: dict[str, str] = {kind.name: "absent" for kind in self._kinds}
        states |= {one.cache.kind.name: one.watcher.state for one in following}
        states |= {name: "unknown" for name in unsynced if states[name] == "absent"}
        with self._lock:
            held = len(self._pending) if unsynced else 0
        return Health(self._age(unsynced), restarts, states, unsynced, held)

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
            self._absence.start()
        self._arrange()
        while not self._known():
            self._tell_listed()
            await self._awake.wait()
            self._awake.clear()
        if absent := [kind.name for kind in self._kinds if kind.name not in self._followed]:
            log.info("kinds that the API server does not serve: %s", ", ".join(absent))
        rejected, told = self.rejected, time.monotonic()
        yield self._take()
        while True:
            await self._awake.wait()
            await asyncio.sleep(max(_SETTLE, told + _PACE - time.monotonic()))
            self._awake.clear()
            told, changes = time.monotonic(), self._take_harmless() if self.unsynced else self._take()
            rejected, former = self.rejected, rejected
            if changes or (rejected is not former and rejected != former):
                yield changes

    def close(self) -> None:
        self._kinds = ()
        self._loop = None
        self._definitions.watcher.stop()
        self._absence.stop()
        self._arrange()
        self._client.close()

    def _known(self) -> bool:
        """Whether it is known what there is of each kind, or (not of critical ones) that it cannot be."""
        return not self.unsynced and self._all_listed()

    def _all_listed(self) -> bool:
        """Whether all is pending that there is of the kinds that are served."""
        return (self._definitions.known or not any(custom(kind) for kind in self._kinds)) and all(
            one.cache.kind.name in self._listed or one.watcher.state in ("absent", "forbidden")
            for one in self.following
        )

    def _tell_listed(self) -> None:
        if self._when_listed and self._all_listed():
            with self._lock:
                changes = list(self._pending.items())
            self._when_listed(changes)
            self._when_listed = None

    def _why(self, kind: Kind, following: Following | None) -> str:
        """Why it is not known what there is of a kind; empty when it is."""
        if following is None:
            if kind in self._absence:
                return ""
            return self._unproven() if self._definitions.known else self._unlisted(self._definitions.watcher)
        watcher = following.watcher
        if watcher.state == "current" and kind.name in self._listed:
            return ""
        if watcher.state == "forbidden":
            rule = f"apiGroups: ['{kind.group}'], resources: [{kind.plural}], verbs: [list, watch]"
            return f"{watcher.verb} is forbidden: {watcher.error}; add to the agent's ClusterRole {{{rule}}}"
        if watcher.state == "absent" and custom(kind):
            return f"{watcher.error}; {self._unproven()}"
        return self._unlisted(watcher)

    def _unlisted(self, watcher: Watcher) -> str:
        return str(watcher.error or "not all is listed yet")

    def _unproven(self) -> str:
        if error := self._absence.error:
            return f"discovery does not tell whether the cluster has this kind: {error}"
        return f"that the cluster has no such kind discovery has to say twice, {APART:.0f} s apart"

    def _age(self, unsynced: Container[str]) -> float:
        """Seconds since all that is in force, or should be by now, was last known to be up to date."""
        since = [
            one.watcher.heard
            for one in self.following
            if one.cache.kind.name in unsynced or one.watcher.state in ("stale", "away")
        ]
        if not since and unsynced:
            since = [self._began]
        return time.monotonic() - min(since) if since else 0.0

    def _doubted(self) -> list[Kind]:
        """The kinds about which discovery is to be asked."""
        following = {one.cache.kind.name: one.watcher for one in self.following}
        return [kind for kind in self._kinds if self._in_doubt(kind, following.get(kind.name))]

    def _in_doubt(self, kind: Kind, watcher: Watcher | None) -> bool:
        if not (kind.critical and custom(kind)):
            return False
        if kind in self._absence:  # what is installed is heard of, unless that is hidden
            return not self._definitions.visible or self._definitions.has(kind)
        if watcher is None:
            return self._definitions.known
        return watcher.state in ("absent", "forbidden")

    def _follows(self, kind: Kind) -> bool:
        """Whether a kind is to be read. A critical one that was there is until it is known to be gone."""
        if kind in self._absence:
            return False
        return self._definitions.has(kind) or (kind.critical and kind.name in self._followed)

    def _arrange(self) -> None:
        """Follow the kinds that are wanted and there, and no others."""
        with self._lock:
            former, self._defined = self._defined, self._now_defined()
            for kind in self._kinds:
                if kind.name in self._defined - former:
                    self._absence.refute(kind)
            there = {kind.name: kind for kind in self._kinds if self._follows(kind)}
            for name in self._followed.keys() - there.keys():
                self._leave(name)
            for name in there.keys() - self._followed.keys():
                self._join(there[name])
        self._absence.recheck()
        self._wake()

    def _now_defined(self) -> frozenset[str]:
        """Kinds that are known to be installed, as far as this can be seen."""
        there = (kind.name for kind in self._kinds if custom(kind) and self._definitions.has(kind))
        return frozenset(there) if self._definitions.visible else frozenset()

    def _join(self, kind: Kind) -> None:
        cache = KindCache(kind, self._noticed)
        paths = [_path(kind, version) for version in kind.versions]
        told, noted = partial(self._told, cache), partial(self._noted, kind.name)
        fields = self._fields.get(kind.name, "")
        watcher = Watcher(self._client, paths, told, noted, self._went_back, fields=fields)
        self._followed[kind.name] = Following(cache, watcher)
        watcher.start()

    def _leave(self, name: str) -> None:
        cache, watcher = self._followed.pop(name)
        watcher.stop()
        self._restarts += watcher.restarts
        self._away.discard(name)
        self._complained.discard(name)
        gone = dict(cache.clear())
        self._pending.update(gone)
        if cache.kind.struct and self._kinds and name in self._listed:
            log.warning(
                "the API server no longer serves kind %s; %d objects are no longer in force",
                name,
                len(gone),
            )
        self._listed.discard(name)

    def _told(self, cache: KindCache, events: Iterable[Event]) -> None:
        """Take what a watch told, in its thread."""
        name, judged = cache.kind.name, cache.judged
        changes = list(cache.take(events))
        with self._lock:
            followed = self._followed.get(name)
            if followed is None or followed.cache is not cache:
                return  # it has been left in the meantime
            self._pending.update(changes)
            # Only now: whoever sees that all are listed finds them pending.
            listed = cache.listed and name not in self._listed
            if listed:
                self._listed.add(name)
        if changes or listed or judged != cache.judged:
            self._wake()

    def _noted(self, name: str) -> None:
        """See to a watch that is in another state, in its thread."""
        with self._lock:
            if name not in self._followed:
                return
            following = self._followed[name]
            watcher = following.watcher
            before = bool(self._away)
            (self._away.add if watcher.state == "away" else self._away.discard)(name)
            after = bool(self._away)
            others = [self._definitions.watcher, *(self._followed[other].watcher for other in self._away)]
        if watcher.state in ("absent", "forbidden"):
            self._complain(following)
        elif after and not before:
            log.error("source unreachable, the last good state stays in force: %s", watcher.error)
        elif before and not after:
            log.info("source reachable again")
        if watcher.state == "current" and name in self._complained:
            self._complained.discard(name)
            log.info("kind %s is read again", name)
        if before and watcher.state == "current":
            for other in others:
                other.hasten()
        self._absence.recheck()
        self._wake()

    def _complain(self, following: Following) -> None:
        kind, watcher = following.cache.kind, following.watcher
        if not kind.critical:
            log.warning("kind %s is %s: %s", kind.name, watcher.state, watcher.error)
        elif kind.name not in self._complained:
            why = self._why(kind, following)
            log.error("kind %s cannot be read, nothing new is let in until it can: %s", kind.name, why)
        self._complained.add(kind.name)

    def _went_back(self) -> None:
        """List all kinds again: not every watch can see that the server was restored."""
        with self._lock:
            if time.monotonic() - self._restored_at < _RESTORED_ONCE:
                return
            self._restored_at = time.monotonic()
            watchers = [self._definitions.watcher, *(one.watcher for one in self._followed.values())]
        for watcher in watchers:
            watcher.relist()

    def _take(self) -> Changes:
        """All that is pending."""
        with self._lock:
            changes, self._pending = self._pending, {}
        return list(changes.items())

    def _take_harmless(self) -> Changes:
        """What may be told before all kinds are synced again."""
        with self._lock:
            changes = [change for change in self._pending.items() if self._harmless(*change)]
            for key, _ in changes:
                del self._pending[key]
        return changes

    def _wake(self) -> None:
        if loop := self._loop:
            with contextlib.suppress(RuntimeError):  # it ended a moment ago
                loop.call_soon_threadsafe(self._awake.set)


def _path(kind: Kind, version: str) -> str:
    group = ("apis", kind.group) if kind.group else ("api",)
    return path_of(*group, version, kind.plural)


def _rejected(following: Iterable[Following]) -> Iterator[Rejected]:
    for cache, watcher in following:
        if watcher.state == "forbidden":
            yield Rejected(Key(cache.kind.name, "", ""), str(watcher.error))
        if cache.kind.struct:
            yield from (Rejected(cache.key(name), told.message) for name, told in [*cache.verdicts.items()])
