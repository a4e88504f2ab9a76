"""The outcomes as a table, and what broke."""

from collections.abc import Sequence

from bench.hostile.attack import Outcome
from bench.hostile.bounds import broken

_HEAD = (
    *("attack", "MB/s", "peer CPU", "tunnel CPU", "PING p50, p99, max ms", "echo in", "echo out"),
    *("memory MB", "most", "after", "bounds"),
)


def row(outcome: Outcome) -> list[str]:
    """One line of the table."""
    before, most, after = outcome.memory
    return [
        label(outcome),
        f"{outcome.sent_mb / outcome.seconds:.1f}",
        f"{outcome.peer_cpu / outcome.seconds:.2f}",
        f"{outcome.tunnel_cpu / outcome.seconds:.2f}",
        _times(outcome.pings),
        _times(outcome.echoes_in),
        _times(outcome.echoes_out),
        f"{before:.0f}",
        f"+{most - before:.0f}",
        f"{after - before:+.0f}",
        "BROKEN" if broken(outcome) else "hold",
    ]


def label(outcome: Outcome) -> str:
    """What the outcome is of, in a word."""
    match outcome.names:
        case ():
            return "(none)"
        case (one,):
            return one
    return f"{len(outcome.names)} at once"


def _times(found: dict[str, float]) -> str:
    return ", ".join(f"{found[name]:.2f}" for name in ("p50", "p99", "max")) if found else "failed"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table, what broke, and what was seen and counted."""
    rows = [_HEAD, ["---", *("---:" for _ in _HEAD[1:-1]), "---"], *(row(outcome) for outcome in outcomes)]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    for outcome in outcomes:
        lines += ["", f"**{label(outcome)}**", ""]
        lines += [f"- BROKEN: {what}" for what in broken(outcome)]
        lines += [f"- {name}: {_counts(counts)}" for name, counts in outcome.seen.items()]
        lines += [f"- counted by the tunnel: {_counts(outcome.counted)}"]
    return "\n".join(lines) + "\n"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items()) or "nothing"
