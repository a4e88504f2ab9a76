"""What went on between workloads, as one node saw it: its records, added up for each edge.

A look goes as JSON from the node to whoever shows the map; it names no request's path and no header.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from protocols.admin import HeldWorkload
from protocols.record import Record

Key = tuple[str, str, bool]  # source, destination, inbound
OUTSIDE = "outside"
_FINENESS = 10  # buckets of durations for each factor of e: 10 % wide
_REASONS = 8  # different ones that are kept of an edge
_EVENTS = 50  # records that are told one by one, of a look; those that went wrong first


class Edge(Struct, omit_defaults=True):
    """One direction between two parties in some time, as one end saw it.

    source, destination: `workload/NAMESPACE/NAME`, `service/HOST` or `outside`. inbound: seen by the
    destination's node. connections: that ended; open: at the end of it. errors: connections and requests that
    failed, denied: that a policy refused. durations: how many requests (connections, where there are none)
    took about e^(bucket/10) ms. paths: how many went each way. bytes: both ways.
    """

    source: str
    destination: str
    inbound: bool = False
    requests: float = 0
    connections: float = 0
    errors: float = 0
    denied: float = 0
    bytes: float = 0
    open: int = 0
    durations: dict[int, float] = field(default_factory=dict)
    paths: dict[str, float] = field(default_factory=dict)
    routes: dict[str, float] = field(default_factory=dict)
    services: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Of those that may be added up."""
        return self.source, self.destination, self.inbound

    def add(self, other: "Edge", sign: int = 1) -> None:
        """What was seen in another time; sign -1: take it away again. `open` becomes the other's."""
        for name in ("requests", "connections", "errors", "denied", "bytes"):
            setattr(self, name, max(0.0, getattr(self, name) + sign * getattr(other, name)))
        for name in ("durations", "paths", "routes", "services", "reasons"):
            _add(getattr(self, name), getattr(other, name), sign)
        if sign > 0:
            self.open = other.open

    @property
    def is_empty(self) -> bool:
        """Nothing ended, and nothing is open."""
        return not (self.requests > 0.01 or self.connections > 0.01 or self.denied > 0.01 or self.open)

    @property
    def p99(self) -> float | None:
        """Milliseconds, within 5 %."""
        return quantile(self.durations, 0.99)


class Workload(Struct, frozen=True):
    """A node of the map. pods: with their addresses and nodes. captured: it speaks mutual TLS."""

    id: str
    namespace: str
    name: str
    identity: str
    captured: bool
    healthy: bool
    services: tuple[str, ...]
    pods: tuple[tuple[str, str, str], ...]


class Event(Struct, frozen=True, omit_defaults=True):
    """A connection or request that ended, for a list. at: Unix seconds; verdict: ok, refused or failed."""

    at: float
    source: str
    destination: str
    from_: str
    to: str
    what: str
    verdict: str
    why: str = ""
    milliseconds: float = 0
    bytes: int = 0
    path: str = ""
    route: str = ""


class Policy(Struct, frozen=True):
    """A policy in force on a node, and how often it has given each verdict there since the tunnel began."""

    name: str
    action: str
    scope: str
    dry_run: bool
    refused: str
    verdicts: dict[str, int]


class Look(Struct, omit_defaults=True):
    """What a node saw in `seconds`. workloads, policies: None where they are as before.

    problem: why nothing could be seen.
    """

    node: str
    seconds: float = 0
    edges: tuple[Edge, ...] = ()
    events: tuple[Event, ...] = ()
    workloads: tuple[Workload, ...] | None = None
    policies: tuple[Policy, ...] | None = None
    problem: str = ""


class Names:
    """Which workload a pod is of, by `namespace/pod`."""

    def __init__(self, held: Iterable[HeldWorkload] = ()) -> None:
        self._of = {str(one): f"workload/{one.namespace}/{one.workload or one.name}" for one in held}

    def source(self, record: Record) -> str:
        """The party that connects."""
        return self._party(record.source_namespace, record.source_pod) or OUTSIDE

    def destination(self, record: Record) -> str:
        """The party that was reached, or meant."""
        service = record.service or record.authority.partition(":")[0]
        party = self._party(record.namespace, record.pod)
        return party or (f"service/{service}" if service else OUTSIDE)

    def _party(self, namespace: str, pod: str) -> str:
        return self._of.get(f"{namespace}/{pod}", f"workload/{namespace}/{pod}") if pod else ""


def workloads(held: Iterable[HeldWorkload]) -> tuple[Workload, ...]:
    """Those of the mesh, each with its pods."""
    found: dict[str, list[HeldWorkload]] = {}
    for one in held:
        found.setdefault(f"workload/{one.namespace}/{one.workload or one.name}", []).append(one)
    return tuple(
        Workload(
            id=key,
            namespace=pods[0].namespace,
            name=pods[0].workload or pods[0].name,
            identity=pods[0].identity,
            captured=all(pod.tunnel == "HBONE" for pod in pods),
            healthy=any(pod.healthy for pod in pods),
            services=tuple(sorted({service for pod in pods for service in pod.services})),
            pods=tuple((pod.name, ", ".join(pod.addresses), pod.node) for pod in pods),
        )
        for key, pods in sorted(found.items())
    )


def edges(ended: Iterable[Record], weight: float, still: Mapping[Key, int], names: Names) -> list[Edge]:
    """Records that ended, each of which counts for `weight`, and how many are open."""
    found: dict[Key, Edge] = {}
    for record in ended:
        if record.how == "requests" and record.verdict == "ok":
            continue  # its requests tell where they went
        key = (names.source(record), names.destination(record), record.direction == "inbound")
        _count(found.setdefault(key, Edge(*key)), record, weight)
    for key, number in still.items():
        found.setdefault(key, Edge(*key)).open = number
    return list(found.values())


def opened(connections: Iterable[Record], names: Names) -> Counter[Key]:
    """How many are open, by edge."""
    return Counter(
        (names.source(one), names.destination(one), one.direction == "inbound")
        for one in connections
        if one.how != "requests"
    )


def events(ended: Iterable[Record], names: Names, at: float) -> tuple[Event, ...]:
    """The last ones: all that went wrong if they are not too many, and some that went well."""
    told = sorted(ended, key=lambda record: record.verdict == "ok")[:_EVENTS]
    return tuple(_event(record, names, at) for record in told)


def quantile(durations: Mapping[int, float], part: float) -> float | None:
    """Milliseconds below which this part lies; None of none."""
    rest = sum(durations.values()) * part
    for bucket, number in sorted(durations.items()):
        rest -= number
        if rest <= 1e-9:
            return math.exp(bucket / _FINENESS)
    return None


def way(record: Record) -> str:
    """How its bytes went: tunnel (mutual TLS), direct, plain, or empty."""
    if not record.is_request:
        return record.how
    return {"mutual_tls": "tunnel", "direct": "direct"}.get(record.security, "plain")


def _count(edge: Edge, record: Record, weight: float) -> None:
    if record.is_request:
        edge.requests += weight
    else:
        edge.connections += weight
        edge.bytes += weight * (record.bytes_sent + record.bytes_recv)
    if record.verdict == "ok":
        bucket = round(_FINENESS * math.log(max(record.duration_ms, 0.01)))
        edge.durations[bucket] = edge.durations.get(bucket, 0) + weight
        if path := way(record):
            edge.paths[path] = edge.paths.get(path, 0) + weight
    else:
        edge.errors += weight
        edge.denied += weight * (record.verdict == "refused")
        why = reason(record)
        if why in edge.reasons or len(edge.reasons) < _REASONS:
            edge.reasons[why] = edge.reasons.get(why, 0) + weight
    for there, name in ((edge.routes, record.route_name), (edge.services, record.service)):
        if name:
            there[name] = there.get(name, 0) + weight


def reason(record: Record) -> str:
    """Why it was refused or failed."""
    return record.error or record.reason or (f"status {record.response_code}" if record.is_request else "")


def _event(record: Record, names: Names, at: float) -> Event:
    return Event(
        at=at,
        source=names.source(record),
        destination=names.destination(record),
        from_=record.source,
        to=record.destination,
        what=f"{record.method} {record.response_code}" if record.is_request else "connection",
        verdict=record.verdict,
        why="" if record.verdict == "ok" else reason(record),
        milliseconds=record.duration_ms,
        bytes=record.bytes_sent + record.bytes_recv,
        path=way(record),
        route=record.route_name,
    )


def _add(here: dict[object, float], there: Mapping[object, float], sign: int) -> None:
    for name, number in there.items():
        here[name] = here.get(name, 0) + sign * number
        if here[name] < 0.01:
            del here[name]
