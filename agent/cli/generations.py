"""The tunnels of a node that follow each other."""

import time

from agent.cli.units import size, span
from protocols.report import Report, Stage


def draining(tunnel: Report) -> dict[str, str]:
    """Each generation that accepts no more: since when, what is left of it, and how long it may last."""
    now = time.time()
    return {
        f"tunnel {one.number}": f"draining for {span(now - one.retired)}: "
        f"{one.connections} connections left, {size(one.resident)}B of memory, version {one.version}; "
        f"ends with the last one, in {span(max(0.0, one.ends - now))} at the latest"
        for one in tunnel.generations
        if one.stage is Stage.RETIRED
    }
