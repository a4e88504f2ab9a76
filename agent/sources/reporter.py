"""Tells the owners of objects what is not in force: as a condition in `status`, or as an Event."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping

from agent.kube import conditions, events
from agent.kube.client import Client
from agent.kube.conditions import Condition
from agent.kube.errors import ApiError
from agent.kube.lease import Lease
from agent.kube.listwatch import Name
from agent.model.kinds import KINDS, NOT_ACTED_ON, Kind
from agent.model.objects import Key
from agent.sources.kept import CONDITION, Verdict
from agent.sources.kube import Following, Kube

log = logging.getLogger(__name__)

_LEASE = "warren-status"
_PATIENCE = 30.0  # seconds between looks at the lease: of a thousand nodes, 33 ask in a second
_LOOK = 1.0  # seconds between two looks at what there is to say
_WRITE = 0.1  # seconds between two writes: what is wrong with thousands of objects must not load the server
_FORBIDDEN = 60.0  # seconds after which a kind that we may not write to is tried again
_WITH_CONDITIONS = "istio.io"  # ends of their groups; the routes of the Gateway API have them for each parent


class Reporter:
    """Writes for all agents of a cluster, while it holds the lease.

    A condition stands until the object is mended, and is removed then. An Event, for kinds that have no
    conditions, ages by itself.
    """

    def __init__(self, client: Client, kube: Kube, namespace: str, node: str) -> None:
        """namespace: of the lease. node: its holder's name, ours."""
        self._client, self._kube = client, kube
        self._lease = Lease(client, namespace, _LEASE, node)
        self._problems: Mapping[Key, str] = {}
        self._said: dict[tuple[str, Name], Verdict | None] = {}
        self._forbidden: dict[str, float] = {}  # kinds, until when

    async def run(self) -> None:
        """For good. What cannot be written is logged, and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep(_PATIENCE))
            tasks.create_task(self._report())

    def tell(self, problems: Mapping[Key, str]) -> None:
        """What of the objects in force does not work, all of it."""
        self._problems = problems

    async def _report(self) -> None:
        leading = False
        while True:
            if leading != self._lease.held:
                leading = not leading
                # What is not acted on is said once in a cluster: no other agent needs to know of it.
                self._kube.follow([*KINDS.values(), *(NOT_ACTED_ON.values() if leading else ())])
                self._said.clear()
            for following, name, verdict in [*self._unsaid()] if leading else ():
                if self._lease.held:
                    await asyncio.to_thread(self._try, following, name, verdict)
                    await asyncio.sleep(_WRITE)
            await asyncio.sleep(_LOOK)

    def _unsaid(self) -> Iterator[tuple[Following, Name, Verdict | None]]:
        """Where there is something else to say than was said; None: nothing any more."""
        known = set()
        for following in self._kube.following:
            kept = following.kept
            verdicts: dict[Name, Verdict | None] = dict.fromkeys(kept.marked.copy())
            verdicts.update(self._in_part(kept.kind))
            verdicts.update(kept.verdicts.copy())
            for name, verdict in verdicts.items():
                item = kept.kind.name, name
                known.add(item)
                if name.name and (item not in self._said or self._said[item] != verdict):
                    yield following, name, verdict
        for item in self._said.keys() - known:
            del self._said[item]

    def _in_part(self, kind: Kind) -> Iterator[tuple[Name, Verdict]]:
        for key, problem in self._problems.items():
            if key.kind == kind.name:
                yield Name(key.namespace, key.name), Verdict("PartlyInForce", problem, 0)

    def _try(self, following: Following, name: Name, verdict: Verdict | None) -> None:
        kind = following.kept.kind
        if self._forbidden.get(kind.name, 0) > time.monotonic():
            return
        try:
            self._say(following, name, verdict)
        except ApiError as error:
            if error.status == 403:
                if kind.name not in self._forbidden:
                    log.warning("status of kind %s cannot be written: %s", kind.name, error)
                self._forbidden[kind.name] = time.monotonic() + _FORBIDDEN
                return
            if error.status != 404:  # else it is gone
                log.warning("status of %s: %s", following.kept.key(name), error)
                return
        self._said[kind.name, name] = verdict

    def _say(self, following: Following, name: Name, verdict: Verdict | None) -> None:
        path = following.watcher.path_to(name)
        if not following.kept.kind.group.endswith(_WITH_CONDITIONS):
            if verdict:
                events.warn(self._client, path, verdict.reason, verdict.message)
        elif verdict:
            conditions.put(self._client, path, Condition(CONDITION, *verdict))
        else:
            conditions.remove(self._client, path, CONDITION)
