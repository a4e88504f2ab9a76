"""Floods: another pod of the attacked one's node that leaves it no room, if it is let."""

import json
from contextlib import ExitStack

from bench.clients import Client, client, finish, go, wait_ready
from bench.errors import BenchError
from bench.hostile.stage import Stage
from bench.path import ECHO
from bench.pods import inside

SOURCE = 7001
"""Port of the server that sends without end."""
_KINDS = {"connections": (ECHO, 64), "requests": (ECHO, 256), "bytes": (SOURCE, 8)}
"""What a flood of each kind talks to, and with how many threads."""
_PODS = {"neighbour": "remote", "outsider": "elsewhere"}
"""Who floods whom, on the other node: through the mesh, and outside of it: so busy is the machine alone."""


def about() -> dict[str, str]:
    """What each flood does, by its name."""
    where = {"neighbour": "through the mesh", "outsider": "outside of the mesh"}
    kinds = [(who, kind, count) for who in _PODS for kind, (_, count) in _KINDS.items()]
    return {
        f"{who}-{kind}": f"{count} threads of {kind} of another pod, {where[who]}"
        for who, kind, count in kinds
    }


def begin(exits: ExitStack, stage: Stage, name: str, seconds: float, cpu: int) -> Client:
    """Start a flood of so many seconds from one CPU. Raises BenchError."""
    who, kind = name.split("-")
    port, count = _KINDS[kind]
    where = f"{stage.pods[_PODS[who]].address}:{port}"
    argv = [str(stage.load), "flood", kind, where, str(seconds), str(count)]
    process = exits.enter_context(client(inside(stage.load, stage.pods[who], argv, str(cpu))))
    wait_ready(process)
    go(process)
    return process


def end(process: Client, failures: list[str]) -> dict[str, int]:
    """How much it did, and how long each took in us. A failure is added to `failures`."""
    try:
        told = json.loads(finish(process))
    except BenchError as error:
        failures.append(f"flood: {error}")
        return {}
    return {"done": told["count"], "us, p50": round(told["p50"]), "us, p99": round(told["p99"])}
