"""Asks the tunnel of a node, again and again, for what has happened since."""

import time
from http.client import HTTPConnection, HTTPException
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent.dashboard.look import Key, Look, Names, Policy, edges, events, opened, workloads
from protocols.admin import Flows, HeldPolicy, HeldWorkload, PolicyCount
from protocols.record import Record, record

T = TypeVar("T")
INTERVAL = 0.5  # seconds between two looks
_ANSWER = 5.0  # seconds
_SHARE = 0.05  # of the time that may go into a question whose answer grows with the mesh
_MESH = 10.0  # seconds after which the workloads are asked for anew
_OPEN = 1.0  # likewise the open connections


class _Mesh(Struct):
    """What the map needs of /config_dump, so that it shows tunnels of other versions, too."""

    workloads: list[HeldWorkload]
    policies: list[HeldPolicy]


class Reader:
    """Of one node's tunnel. Its looks are to be taken one after the other."""

    def __init__(self, node: str, host: str = "127.0.0.1", port: int = 15000) -> None:
        self._node = node
        self._address = host, port
        self._last: int | None = None  # the number of the last record
        self._at = 0.0
        self._names = Names()
        self._still: dict[Key, int] = {}
        self._due = {"mesh": 0.0, "open": 0.0}

    def look(self) -> Look:
        """What happened since the last one."""
        try:
            return self._look()
        except (OSError, HTTPException, msgspec.MsgspecError) as error:
            self._due = dict.fromkeys(self._due, 0.0)  # another tunnel may be there next time
            return Look(self._node, problem=f"no tunnel answers on {self._node}: {error}")

    def _look(self) -> Look:
        seen, policies = None, None
        if self._is_due("mesh"):
            began = time.monotonic()
            dump = self._ask("/config_dump", _Mesh)
            self._names, seen = Names(dump.workloads), workloads(dump.workloads)
            counts = {one.name: one.verdicts for one in self._ask("/authz/policies", list[PolicyCount])}
            policies = tuple(
                Policy(one.name, one.action, one.scope, one.dry_run, one.refused, counts.get(one.name, {}))
                for one in dump.policies
            )
            self._asked("mesh", began, _MESH)
        if self._is_due("open"):
            began = time.monotonic()
            self._still = opened(self._ask("/connections", list[Record]), self._names)
            self._asked("open", began, _OPEN)
        ended, weight = self._ended()
        now = time.monotonic()
        seconds, self._at = (now - self._at if self._at else 0.0), now
        return Look(
            self._node,
            seconds,
            tuple(edges(ended, weight, self._still, self._names)),
            events(ended, self._names, time.time()),
            seen,
            policies,
        )

    def _ended(self) -> tuple[list[Record], float]:
        """Records since the last look, and for how many each stands: of too many the tunnel keeps a part."""
        said = self._ask(f"/flows?after={'end' if self._last is None else self._last}", Flows)
        number = said.last - self._last if self._last is not None else 0
        self._last = said.last
        found = [record(one) for one in said.flows]
        return found, max(1.0, number / len(found)) if found else 1.0

    def _is_due(self, what: str) -> bool:
        return time.monotonic() >= self._due[what]

    def _asked(self, what: str, began: float, interval: float) -> None:
        now = time.monotonic()
        self._due[what] = now + max(interval, (now - began) / _SHARE)

    def _ask(self, path: str, kind: type[T]) -> T:
        """Raises OSError, HTTPException, MsgspecError."""
        connection = HTTPConnection(*self._address, timeout=_ANSWER)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"{path} is answered with {response.status} {response.reason}")
        return msgspec.json.decode(body, type=kind)
