"""Memory and CPU time of proxies that have nothing to do."""

import time
from collections.abc import Mapping
from pathlib import Path

from bench.clients import held
from bench.cpu import resident
from bench.errors import BenchError
from bench.measure import Meter
from bench.path import ECHO, DataPath

SETTLE = 1.0
"""Seconds that a proxy gets to come to rest."""


def at_rest(path: DataPath, seconds: float) -> dict[str, float]:
    """Memory of the larger proxy in MB, and CPU time of all during `seconds` in percent of one CPU."""
    time.sleep(SETTLE)
    meter = Meter(dict(path.proxies))
    time.sleep(seconds)
    used, _, elapsed = meter.stop()
    return {"memory_mb": max(path.memory().values()) / 1e6, "cpu_percent": 100 * sum(used.values()) / elapsed}


def with_idle(
    load: Path, path: DataPath, count: int, seconds: float, fresh: Mapping[str, int]
) -> dict[str, float]:
    """The same while `count` idle connections are open, and the memory that each takes in kB.

    `fresh` is the memory of each proxy in bytes when it was fresh: what a proxy keeps of the load in between
    is counted, too. Raises BenchError when connections are lost.
    """
    with held(load, path, ECHO, count):
        figures = at_rest(path, seconds)
        grown = [resident(pid) - fresh[name] for name, pid in path.proxies.items()]
    if max(grown) <= 0:
        raise BenchError(f"{path.name}: no proxy grew with {count} connections: the traffic goes around them")
    return {**figures, "kb_each": max(grown) / count / 1e3, "kb_each_all": sum(grown) / count / 1e3}
