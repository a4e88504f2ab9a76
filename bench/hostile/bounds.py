"""What must hold while a peer attacks."""

from collections.abc import Iterator

from bench.hostile.attack import Counts, Outcome

PING_P99 = 10.0
"""Milliseconds for an honest tunnel's PING, 99 of 100."""
MEMORY = 64.0
"""Megabytes by which the tunnel may grow."""
COUNTED = 0.98
"""The share of what the peer saw refused that must be in counters: the last ones may not be in them yet."""
# What the peer did itself, and what follows from its leaving.
_OWN = ("peer_reset", "app_reset", "tunnel_lost", "ok")


def broken(outcome: Outcome) -> list[str]:
    """The bounds that did not hold, in words."""
    return list(_broken(outcome))


def _broken(outcome: Outcome) -> Iterator[str]:
    yield from outcome.failures
    if (p99 := outcome.pings.get("p99", 0.0)) >= PING_P99:
        yield f"PING p99 {p99:.1f} ms: {PING_P99:g} ms at most"
    if (grown := outcome.memory[1] - outcome.memory[0]) > MEMORY:
        yield f"memory +{grown:.0f} MB: {MEMORY:g} MB at most"
    seen, counted = refused(outcome.seen), told(outcome.counted)
    if counted < COUNTED * seen:
        yield f"the peer saw {seen:,} refusals, counters with a reason have {counted:,}"


def refused(seen: dict[str, Counts]) -> int:
    """Streams and tunnels that the tunnel has refused or ended, as the peer saw it."""
    return sum(count for counts in seen.values() for what, count in counts.items() if _is_refusal(what))


def _is_refusal(what: str) -> bool:
    kind, _, rest = what.partition(" ")
    match kind:
        case "status":
            return rest != "200"
        case "stream":
            return True
        case "end" | "refused":
            return rest not in ("stalled", "goaway 0")
    return False


def told(counted: Counts) -> int:
    """What the tunnel has counted of it, whatever the reason."""
    own = tuple(f"{reason}}}" for reason in _OWN)
    return sum(count for name, count in counted.items() if not name.endswith(own))
