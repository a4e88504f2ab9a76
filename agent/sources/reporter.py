"""Tells the owners of objects what is not in force: as a condition in `status`, or as an Event.

What a status says is compared with what it has to say, whenever either changes: what others wiped is
written again. What is noticed last is said first, at a bounded rate; what is gone meanwhile is not said.
"""

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from agent.kube import conditions, events
from agent.kube.client import Client
from agent.kube.conditions import Condition
from agent.kube.errors import ApiError
from agent.kube.listwatch import Name
from agent.model.kinds import KINDS, NOT_ACTED_ON
from agent.model.schema.objects import Key
from agent.model.translation.routes.status import ParentStatus
from agent.sources import parent_status
from agent.sources.kind_cache import CONDITION, Told, Verdict
from agent.sources.kube import Following, Kube
from agent.sources.parent_status import Said

log = logging.getLogger(__name__)

_LOOK = 0.5  # seconds between two looks at what there is to say
_WRITE = 0.05  # seconds between two writes: what is wrong with thousands of objects must not load the server
_FORBIDDEN = 60.0  # seconds after which a kind in a namespace is tried again that we may not write to
_FAILED = 5.0  # seconds after which anything else is tried again
_EVENTS_LAST = 3600.0  # seconds that an API server keeps an Event (--event-ttl)
# Seconds until a status that is still not what was written is written again: it may be told in a moment, or
# somebody wipes it. Twice as many each time.
_AGAIN, _AGAIN_AT_MOST = 10.0, 600.0
# Ends of their groups; routes of the Gateway API have them for each parent.
_WITH_CONDITIONS = ("istio.io", "warren.dev")


Parents = Callable[[Key], Iterable[ParentStatus]]


def _no_parents(key: Key) -> Iterable[ParentStatus]:
    return ()


class _Said(NamedTuple):
    """What was said of an object, when, and how often in a row."""

    verdict: Verdict | frozenset[Said] | None
    at: float
    times: int = 1


class Reporter:
    """Follows all objects, also of kinds that are not acted on, and writes. One at a time in a cluster.

    A condition stands until the object is mended, and is removed then. An Event, for kinds that have no
    conditions, is counted up each time that it would end.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._noticed: deque[Key] = deque()  # written by the watches' threads
        self.kube = Kube(client, [*KINDS.values(), *NOT_ACTED_ON.values()], noticed=self._noticed.append)
        self._problems: Mapping[Key, str] = {}
        self._parents: Parents = _no_parents
        self._queue: dict[Key, None] = {}  # the last is next
        self._later: list[tuple[float, Key]] = []  # a heap
        self._said: dict[Key, _Said] = {}
        self._forbidden: dict[tuple[str, str], float] = {}  # kind and namespace: until when
        self._complained: set[str] = set()

    def tell(
        self, problems: Mapping[Key, str], parents: Parents = _no_parents, changed: Iterable[Key] = ()
    ) -> None:
        """What of the objects in force does not work, all of it.

        parents: what a route is for its parents, which for one among `changed` may be something else now.
        """
        routes = {one.cache.kind.name for one in self.kube.following if one.cache.has_parents}
        self._noticed.extend(key for key in changed if key.kind in routes)
        former, self._problems, self._parents = self._problems, problems, parents
        self._noticed.extend(key for key, text in problems.items() if former.get(key) != text)
        self._noticed.extend(key for key in former if key not in problems)

    async def run(self) -> None:
        """For good. What cannot be written is logged, and tried again."""
        while True:
            self._collect()
            if not self._queue:
                await asyncio.sleep(_LOOK)
                continue
            key, _ = self._queue.popitem()
            if self._is_due(key):
                await asyncio.to_thread(self._try, key)
                await asyncio.sleep(_WRITE)

    def _collect(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            self._noticed.append(heapq.heappop(self._later)[1])
        while self._noticed:
            key = self._noticed.popleft()
            self._queue.pop(key, None)
            self._queue[key] = None

    def _is_due(self, key: Key) -> bool:
        """Whether there is something to say now; what is to be said later is put off until then."""
        following, now = self._following(key), time.monotonic()
        if following is None or not key.name:
            return False
        verdict, said = self._verdict(following, key), self._said.get(key)
        name = Name(key.namespace, key.name)
        told = following.cache.told.get(name)
        if isinstance(verdict, frozenset):
            done = verdict == following.cache.parents.get(name)
            again = min(_AGAIN * 2 ** (said.times - 1), _AGAIN_AT_MOST) if said else 0
        elif _has_conditions(following):
            done = _says(told, verdict)
            again = min(_AGAIN * 2 ** (said.times - 1), _AGAIN_AT_MOST) if said else 0
        else:
            done, again = verdict is None, _EVENTS_LAST
        if done:
            if verdict is None:
                self._said.pop(key, None)
            return False
        due = said.at + again if said and said.verdict == verdict else 0
        due = max(due, self._forbidden.get((key.kind, key.namespace), 0))
        if due > now:
            heapq.heappush(self._later, (due, key))
        return due <= now

    def _following(self, key: Key) -> Following | None:
        return next((one for one in self.kube.following if one.cache.kind.name == key.kind), None)

    def _verdict(self, following: Following, key: Key) -> Verdict | frozenset[Said] | None:
        """What there is to say of an object now, of a route for each of its parents; None: nothing."""
        if following.cache.has_parents:
            said = parent_status.wanted(self._parents(key))
            if said or following.cache.parents.get(Name(key.namespace, key.name)):
                return said
        if verdict := following.cache.verdicts.get(Name(key.namespace, key.name)):
            return verdict
        problem = self._problems.get(key)
        return Verdict("PartlyInForce", problem, 0) if problem else None

    def _try(self, key: Key) -> None:
        """Blocks."""
        following = self._following(key)
        if following is None:
            return
        verdict, said, now = self._verdict(following, key), self._said.get(key), time.monotonic()
        try:
            self._say(following, key, verdict)
        except ApiError as error:
            if error.status == 404:
                return  # it is gone
            heapq.heappush(self._later, (now + self._put_off(key, error), key))
            return
        self._complained.discard(key.kind)
        again = said and said.verdict == verdict and now - said.at <= _AGAIN_AT_MOST
        self._said[key] = _Said(verdict, now, said.times + 1 if said and again else 1)
        self._noticed.append(key)  # to see whether it stands, or is to be said again

    def _put_off(self, key: Key, error: ApiError) -> float:
        """For how many seconds. Nothing can be made in a namespace that ends: that says nothing of others."""
        if error.status == 403:
            self._forbidden[key.kind, key.namespace] = time.monotonic() + _FORBIDDEN
        if key.kind not in self._complained:
            self._complained.add(key.kind)
            log.warning("status of kind %s cannot be written, trying again: %s", key.kind, error)
        return _FORBIDDEN if error.status == 403 else max(_FAILED, error.retry_after)

    def _say(self, following: Following, key: Key, verdict: Verdict | frozenset[Said] | None) -> None:
        path = following.watcher.path_to(Name(key.namespace, key.name))
        if isinstance(verdict, frozenset):
            changed = partial(parent_status.entries, verdict, conditions.now())
            conditions.update(self._client, path, "parents", changed)
        elif not _has_conditions(following):
            if verdict:
                events.warn(self._client, path, verdict.reason, verdict.message)
        elif verdict:
            conditions.put(self._client, path, Condition(CONDITION, *verdict))
        else:
            conditions.remove(self._client, path, CONDITION)


def _has_conditions(following: Following) -> bool:
    return following.cache.kind.group.endswith(_WITH_CONDITIONS)


def _says(told: Told | None, verdict: Verdict | None) -> bool:
    """Whether a status says what it has to, of the object's present version."""
    if told is None or verdict is None:
        return told is None and verdict is None
    generation = verdict.generation or told.generation
    return told[:3] == (verdict.reason, verdict.message, generation)
