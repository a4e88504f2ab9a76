"""How busy this node's tunnel is between two looks, by any name of a record."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from agent.cli.admin_client import ask
from agent.cli.filters import Wanted
from protocols.admin import Flows
from protocols.record import Record, record


class Busy(Struct):
    """What went on in a second, and how many connections are open. errors: refused or failed."""

    name: str
    open: int = 0
    connections: float = 0
    requests: float = 0
    errors: float = 0
    sent: float = 0
    received: float = 0


class Sample(Struct, frozen=True):
    """What the tunnel has at a moment: open connections, and those that ended since the last sample."""

    at: float
    last: int
    open: dict[tuple[str, ...], Record]
    ended: list[Record]


def sample(tunnel: str, last: int) -> Sample:
    """The tunnel's figures now; last: of the sample before, 0 for the first one. Raises NoTunnel."""
    found = map(record, ask(tunnel, "/connections", list[dict[str, Any]]))
    told = ask(tunnel, "/flows", Flows, {"after": last or "end"})
    ended = [record(one) for one in told.flows] if last else []
    return Sample(time.monotonic(), told.last, {_identity(one): one for one in found}, ended)


def workload(one: Record) -> str:
    """The pod of this node that a record is of."""
    return one.source if one.direction == "outbound" else f"{one.namespace}/{one.pod}"


def busy(before: Sample, after: Sample, key: Callable[[Record], str], fits: Wanted) -> list[Busy]:
    """Between two samples, by what `key` gives of a record; the busiest first."""
    seconds = max(after.at - before.at, 1e-3)
    found: dict[str, Busy] = {}
    ended = [one for one in after.ended if fits(one)]
    still = [one for one in after.open.values() if fits(one)]
    for one in (*still, *ended):
        row = found.setdefault(key(one), Busy(key(one)))
        if one.is_request:
            row.requests += 1 / seconds
        else:
            former = before.open.get(_identity(one))
            row.connections += (former is None) / seconds
            row.sent += (one.bytes_sent - (former.bytes_sent if former else 0)) / seconds
            row.received += (one.bytes_recv - (former.bytes_recv if former else 0)) / seconds
        row.errors += (bool(one.time) and one.verdict != "ok") / seconds
    for one in still:
        found[key(one)].open += 1
    return sorted(found.values(), key=lambda row: (-row.requests - row.connections, -row.sent - row.received))


def _identity(one: Record) -> tuple[str, ...]:
    return one.direction, one.source_address, one.address
