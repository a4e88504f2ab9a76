"""The mesh as its nodes have told it lately: what the page shows, now or at a moment of the last minutes."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
from msgspec import Struct

from agent.dashboard.look import Edge, Event, Key, Look, Policy, Workload

WINDOWS = (10, 60, 300, 900)  # seconds of which the page may show rates
_MOST_TICKS = WINDOWS[-1]
_MOST_BYTES = 32 << 20  # of the ring
_MOST_EDGES = 5000  # in a tick; those with the least traffic are left out of it
_EVENTS = 500
_UNUSED = 30.0  # seconds after which sums that nobody asks for are forgotten
_DARK = 5.0  # seconds without a look after which a node counts as silent


class Shown(Struct):
    """An edge as the page gets it: rates are per second. p99 in ms, None where nothing was measured.

    lock: mtls (mutual TLS), direct (within a node, in the kernel: identities proven, not encrypted), plain
    (neither), mixed, or none (nothing went through).
    """

    source: str
    destination: str
    requests: float
    connections: float
    errors: float
    denied: float
    bytes: float
    open: int
    p99: float | None
    lock: str
    paths: dict[str, float]
    routes: dict[str, float]
    services: dict[str, float]
    reasons: dict[str, float]


class Graph(Struct, omit_defaults=True):
    """What the page shows. at: Unix seconds; seconds: of the window, as far as there is one.

    history: seconds that can be looked back. problems: why nodes are not seen, by node. workloads, policies:
    None where they are as before.
    """

    at: float
    seconds: float
    history: float
    nodes: tuple[str, ...]
    problems: dict[str, str]
    edges: list[Shown]
    events: list[Event]
    workloads: list[Workload] | None = None
    policies: dict[str, Policy] | None = None
    version: int = 0


class _Tick(Struct, frozen=True):
    at: float
    seconds: float
    edges: bytes  # msgpack of list[Edge]: a tenth of what the objects take

    def decode(self) -> list[Edge]:
        return msgspec.msgpack.decode(self.edges, type=list[Edge])


class _Sums:
    """Over the last so many seconds, kept up to date."""

    def __init__(self, window: float, ring: Iterable[_Tick]) -> None:
        self._window = window
        self._ticks: deque[_Tick] = deque()
        self.edges: dict[Key, Edge] = {}
        self.seconds = 0.0
        self.used = time.monotonic()
        for tick in ring:
            self.add(tick)

    def add(self, tick: _Tick) -> None:
        for edge in self.edges.values():
            edge.open = 0
        _add_up(self.edges, tick.decode())
        self._ticks.append(tick)
        self.seconds += tick.seconds
        while self.seconds > self._window + 0.5 and len(self._ticks) > 1:
            self.forget(self._ticks[0])

    def forget(self, tick: _Tick) -> None:
        """Take it away, if it is the oldest that there is."""
        if self._ticks[0] is not tick:
            return
        self._ticks.popleft()
        self.seconds -= tick.seconds
        for edge in tick.decode():
            if known := self.edges.get(edge.key):
                known.add(edge, -1)
                if known.is_empty:
                    del self.edges[edge.key]


class Board:
    """Takes looks, and gives graphs."""

    def __init__(self) -> None:
        self._pending: dict[str, dict[Key, Edge]] = {}
        self._ring: deque[_Tick] = deque()
        self._bytes = 0
        self._sums: dict[int, _Sums] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._workloads: dict[str, dict[str, Workload]] = {}
        self._policies: dict[str, dict[str, Policy]] = {}
        self._heard: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._ticked = time.monotonic()
        self.version = 0

    def take(self, look: Look) -> None:
        """What a node saw."""
        if look.problem:
            self._problems[look.node] = look.problem
            self._heard.setdefault(look.node, 0.0)
            return
        self._problems.pop(look.node, None)
        self._heard[look.node] = time.monotonic()
        pending = self._pending.setdefault(look.node, {})
        for edge in pending.values():
            edge.open = 0
        _add_up(pending, look.edges)
        self._events.extend(look.events)
        if look.workloads is not None:
            self._learn(look)

    def tick(self) -> None:
        """Close a second: everything taken since the last tick is its. There is none before a node tells."""
        now = time.monotonic()
        seconds, self._ticked = now - self._ticked, now
        if not self._heard:
            return
        whole: dict[Key, Edge] = {}
        for pending in self._pending.values():
            for key, edge in pending.items():
                before = whole.setdefault(key, Edge(*key)).open
                whole[key].add(edge)
                whole[key].open += before
        self._pending.clear()
        kept = sorted(whole.values(), key=lambda edge: -edge.requests - edge.connections - edge.denied)
        self._push(_Tick(time.time(), seconds, msgspec.msgpack.encode(kept[:_MOST_EDGES])))

    def rest(self) -> None:
        """Forget what went on: nodes tell nothing any more until somebody looks again."""
        self._pending.clear()
        self._ring.clear()
        self._bytes = 0
        self._sums.clear()
        self._events.clear()
        self._heard.clear()
        self._problems.clear()

    def graph(self, window: int = 60, ago: float = 0, known: int = -1) -> Graph:
        """Over `window` seconds, one of `WINDOWS`, that ended `ago` seconds ago.

        known: the version of the workloads that the page has.
        """
        edges, seconds = self._past(window, ago) if ago > 0 else self._present(window)
        changed = known != self.version
        return Graph(
            at=time.time() - ago,
            seconds=seconds,
            history=sum(tick.seconds for tick in self._ring),
            nodes=tuple(sorted(self._heard)),
            problems=self._silent(),
            edges=list(shown(edges, seconds)),
            events=self._lately(time.time() - ago),
            workloads=sorted(self._mesh(), key=lambda one: one.id) if changed else None,
            policies=self._in_force() if changed else None,
            version=self.version,
        )

    def events(self, source: str, destination: str) -> list[Event]:
        """The last connections and requests of an edge, or of a party where one end is left empty."""
        fits = (
            event
            for event in reversed(self._events)
            if source in ("", event.source) and destination in ("", event.destination)
        )
        return list(islice(fits, 50))

    def _learn(self, look: Look) -> None:
        workloads = {one.id: one for one in look.workloads or ()}
        policies = {one.name: one for one in look.policies or ()}
        if (workloads, policies) != (self._workloads.get(look.node), self._policies.get(look.node)):
            self._workloads[look.node], self._policies[look.node] = workloads, policies
            self.version += 1

    def _mesh(self) -> Iterable[Workload]:
        """As the node knows it that knows most of its pods."""
        found: dict[str, Workload] = {}
        for told in self._workloads.values():
            for key, one in told.items():
                if key not in found or len(one.pods) > len(found[key].pods):
                    found[key] = one
        return found.values()

    def _in_force(self) -> dict[str, Policy]:
        """With the verdicts of all nodes."""
        found: dict[str, Policy] = {}
        for told in self._policies.values():
            for name, one in told.items():
                before = found[name].verdicts if name in found else {}
                verdicts = {
                    verdict: before.get(verdict, 0) + one.verdicts.get(verdict, 0)
                    for verdict in {*before, *one.verdicts}
                }
                found[name] = msgspec.structs.replace(one, verdicts=verdicts)
        return found

    def _push(self, tick: _Tick) -> None:
        now = time.monotonic()
        self._sums = {window: sums for window, sums in self._sums.items() if now - sums.used < _UNUSED}
        for sums in self._sums.values():
            sums.add(tick)
        self._ring.append(tick)
        self._bytes += len(tick.edges)
        while len(self._ring) > _MOST_TICKS or self._bytes > _MOST_BYTES:
            gone = self._ring.popleft()
            self._bytes -= len(gone.edges)
            for sums in self._sums.values():
                sums.forget(gone)

    def _present(self, window: int) -> tuple[Iterable[Edge], float]:
        sums = self._sums.get(window)
        if sums is None:
            sums = self._sums[window] = _Sums(window, self._ring)
        sums.used = time.monotonic()
        return sums.edges.values(), sums.seconds

    def _past(self, window: int, ago: float) -> tuple[Iterable[Edge], float]:
        end = time.time() - ago
        ticks = [tick for tick in self._ring if end - window < tick.at <= end]
        sums = _Sums(window, ticks)
        return sums.edges.values(), sums.seconds

    def _lately(self, until: float) -> list[Event]:
        return list(islice((event for event in reversed(self._events) if event.at <= until + 0.5), 30))

    def _silent(self) -> dict[str, str]:
        now = time.monotonic()
        silent = {
            node: f"{node} has told nothing for {now - heard:.0f} s"
            for node, heard in self._heard.items()
            if heard and now - heard > _DARK
        }
        return {**silent, **self._problems}


def shown(edges: Iterable[Edge], seconds: float) -> Iterator[Shown]:
    """Each pair of parties once, as its source saw it, with what the other end refused."""
    pairs: dict[tuple[str, str], list[Edge]] = {}
    for edge in edges:
        pairs.setdefault((edge.source, edge.destination), []).append(edge)
    for (source, destination), seen in pairs.items():
        outbound = next((edge for edge in seen if not edge.inbound), None)
        inbound = next((edge for edge in seen if edge.inbound), None)
        first, other = (outbound or inbound), (inbound if outbound else None)
        assert first
        if first.is_empty and (other is None or other.is_empty):
            continue
        yield _shown(source, destination, first, other or Edge(source, destination), seconds)


def _shown(source: str, destination: str, first: Edge, other: Edge, seconds: float) -> Shown:
    def rate(name: str) -> float:
        return round(float(getattr(first, name) or getattr(other, name)) / max(seconds, 0.1), 3)

    def most(name: str) -> float:
        return round(float(max(getattr(first, name), getattr(other, name))) / max(seconds, 0.1), 3)

    p99 = first.p99 or other.p99
    return Shown(
        source,
        destination,
        requests=rate("requests"),
        connections=rate("connections"),
        errors=most("errors"),
        denied=most("denied"),
        bytes=rate("bytes"),
        open=first.open or other.open,
        p99=round(p99, 1) if p99 else None,
        lock=lock(first.paths or other.paths),
        paths=first.paths or other.paths,
        routes=first.routes or other.routes,
        services=first.services or other.services,
        reasons={**other.reasons, **first.reasons},
    )


def lock(paths: dict[str, float]) -> str:
    """What protects an edge, see `Shown`."""
    match sorted(paths):
        case []:
            return "none"
        case ["tunnel"]:
            return "mtls"
        case [one]:
            return one
    return "mixed"


def _add_up(known: dict[Key, Edge], edges: Iterable[Edge]) -> None:
    for edge in edges:
        known.setdefault(edge.key, Edge(*edge.key)).add(edge)
