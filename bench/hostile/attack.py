"""One attack, and what is watched: the tunnel's memory and counters, PINGs and echoes of honest users."""

import json
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clients import Client, client, finish, go, wait_ready
from bench.cpu import resident
from bench.errors import BenchError
from bench.hostile import flood
from bench.hostile.stage import Identity, Stage
from bench.measure import Meter
from bench.path import ECHO
from bench.pods import Pod, inside

TUNNEL_PORT = 15008
UNREAD = "unread"
"""The one attack that is the pod's own application's, not a peer's: downloads that it does not read."""
UNREAD_COUNT = 250
PING_EVERY, ECHO_EVERY = 10, 10  # milliseconds
HONEST_TUNNELS = 4
REST = 5.0
"""Seconds that the tunnel gets afterwards to give memory back."""
# What is measured should be the tunnel's delay, not that of whoever measures on a machine that is busy.
_AT_ONCE = ["chrt", "--fifo", "1"]

Counts = dict[str, int]


@dataclass(frozen=True)
class Outcome:
    """What came of attacks with these names, all at once.

    Memory is in MB, resident, as `(before, most, REST seconds later)`; CPU in seconds. `pings` of an honest
    peer, echoes for the attacked pod's clients and from servers that it calls: p50, p99 and max in ms and the
    count; empty where one failed, and `failures` says why.
    `seen`: how often what happened, as the peer saw it, by attack. `counted`: by what the tunnel's counters
    with a reason have grown.
    """

    names: tuple[str, ...]
    seconds: float
    sent_mb: float
    peer_cpu: float
    tunnel_cpu: float
    memory: tuple[float, float, float]
    pings: dict[str, float]
    echoes_in: dict[str, float]
    echoes_out: dict[str, float]
    failures: tuple[str, ...]
    seen: dict[str, Counts]
    counted: Counts


@dataclass(frozen=True)
class Strength:
    """How strong an attack is: its seconds, the MB/s at most, and the one CPU from which it comes."""

    seconds: float
    rate: float
    cpu: int


def attack(stage: Stage, names: Sequence[str], strength: Strength) -> Outcome:
    """Attack a fresh tunnel with all of `names` at once. Raises LabError, BenchError."""
    stage.restart()
    before, counted = resident(stage.tunnel), reasons(stage.metrics())
    _forget_peak(stage.tunnel)
    failures: list[str] = []
    with ExitStack() as exits:
        honest = [exits.enter_context(client(argv)) for argv in _honest(stage, strength.seconds)]
        for each in honest:
            wait_ready(each)
            go(each)
        unread = exits.enter_context(client(_unread(stage))) if UNREAD in names else None
        floods = {
            name: flood.begin(exits, stage, name, strength.seconds, strength.cpu)
            for name in names
            if name in flood.about()
        }
        meter = Meter({"tunnel": stage.tunnel})
        told = _attack(stage, [each for each in names if each not in (UNREAD, *floods)], strength)
        used, _, elapsed = meter.stop()
        told["attacks"] |= {name: flood.end(process, failures) for name, process in floods.items()}
        pings, echoes_in, echoes_out = (_latencies(each, failures) for each in honest)
        if unread:
            told["attacks"][UNREAD] = _read_again(unread, failures)
    most = _peak(stage.tunnel)
    time.sleep(REST)
    return Outcome(
        names=tuple(names),
        seconds=elapsed,
        sent_mb=told["sent"] / 1e6,
        peer_cpu=told["cpu"],
        tunnel_cpu=used["tunnel"],
        memory=(before / 1e6, most / 1e6, resident(stage.tunnel) / 1e6),
        pings=pings,
        echoes_in=echoes_in,
        echoes_out=echoes_out,
        failures=tuple(failures),
        seen=told["attacks"],
        counted=_grown(counted, reasons(stage.metrics())),
    )


def _grown(before: Counts, after: Counts) -> Counts:
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in grown.items() if count}


def reasons(metrics: str) -> Counts:
    """The counters that have a reason, as `name{reporter,reason}`."""
    pattern = r'^(\w+)_total\{(?:reporter="(\w+)",)?reason="(\w+)"\} (\d+)$'
    return {
        f"{name}{{{','.join(filter(None, (reporter, reason)))}}}": int(count)
        for name, reporter, reason, count in re.findall(pattern, metrics, re.MULTILINE)
    }


def _honest(stage: Stage, seconds: float) -> list[list[str]]:
    """Who measures: a peer with tunnels of its own, and applications on both nodes."""
    load, honest, victim = str(stage.load), stage.pods["honest"], stage.pods["victim"]
    pings = [load, "pings", f"{victim.address}:{TUNNEL_PORT}", str(seconds), str(PING_EVERY)]
    pings += [str(HONEST_TUNNELS), *_files(stage.identities["honest"])]

    def echoes(client: Pod, server: Pod) -> list[str]:
        argv = [load, "echoes", f"{server.address}:{ECHO}", str(seconds), str(ECHO_EVERY)]
        return [*_AT_ONCE, *inside(stage.load, client, argv)]

    outside = [*_AT_ONCE, *_outside(stage, "honest", pings)]
    return [outside, echoes(honest, victim), echoes(victim, honest)]


def _unread(stage: Stage) -> list[str]:
    where = f"{stage.pods['honest'].address}:{flood.SOURCE}"
    return inside(stage.load, stage.pods["victim"], [str(stage.load), "unread", where, str(UNREAD_COUNT)])


def _outside(stage: Stage, name: str, argv: Sequence[str], cpu: str = "-") -> list[str]:
    """The command line that runs `argv` in a pod's network, as the pod's node does: nothing is captured."""
    return [str(stage.load), "enter", str(stage.pods[name].netns), "-", cpu, *argv]


def _files(identity: Identity) -> list[str]:
    return [str(identity.chain), str(identity.key)]


def _attack(stage: Stage, names: Sequence[str], strength: Strength) -> dict[str, Any]:
    """What the peer tells: bytes sent, its CPU time, and by attack what it saw."""
    if not names:
        time.sleep(strength.seconds)
        return {"sent": 0, "cpu": 0.0, "attacks": {}}
    where = f"{stage.pods['victim'].address}:{TUNNEL_PORT}"
    who = _files(stage.identities["hostile"])
    how = [where, str(strength.seconds), str(strength.rate), *who, ",".join(names)]
    argv = [str(stage.load), "attack", *how]
    with client(_outside(stage, "hostile", argv, str(strength.cpu))) as process:
        told: dict[str, Any] = json.loads(finish(process, within=strength.seconds + 30))
    return told


def _latencies(process: Client, failures: list[str]) -> dict[str, float]:
    """In ms; empty when it failed."""
    try:
        told = json.loads(finish(process))
    except BenchError as error:
        failures.append(str(error))
        return {}
    return {"count": told["count"], **{name: told[name] / 1e3 for name in ("p50", "p99", "max")}}


def _read_again(process: Client, failures: list[str]) -> Counts:
    """What was left unread is read."""
    try:
        wait_ready(process)
        told = json.loads(finish(process, "\n"))
    except BenchError as error:
        failures.append(f"unread download: {error}")
        return {}
    return {"connections": told["count"], "ms to read 8 MB": round(1e3 * told["seconds"])}


def _forget_peak(pid: int) -> None:
    """The most memory of a process is that from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak(pid: int) -> int:
    """The most resident memory, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
