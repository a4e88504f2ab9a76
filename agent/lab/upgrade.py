"""A node's agent and tunnel are replaced in the order of a DaemonSet: the tunnel's connections go on."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.lab import mesh
from agent.lab.errors import LabError
from agent.lab.members import Node
from agent.lab.waiting import wait

_WITHIN = 30.0  # seconds
_ADMIN_PORT = 15000

Generations = list[dict[str, Any]]


def upgrade(node: Node, checkout: Path | None = None) -> None:
    """Replace agent and tunnel by what is installed now, or by another version, built in a checkout of it.

    Raises LabError; what ran before then goes on.
    """
    upgrade_tunnel(node, checkout=checkout)
    node.stop("agent")
    _run(node, "agent", checkout)
    mesh.await_ready(node.state, node.place, "agent")


def upgrade_tunnel(node: Node, *options: str, within: float = _WITHIN, checkout: Path | None = None) -> None:
    """Start another tunnel, wait until it serves, and end the former one, whose connections go on.

    options: more of the new one's. within: seconds for it to serve. Raises LabError when it does not; the
    former one serves on then.
    """
    before = set(node.pids("tunnel"))
    if not before:
        raise LabError(f"no tunnel runs on {node.name}: `warren lab start tunnel --node={node.name}`")
    _run(node, "tunnel", checkout, *options)
    found: Generations = []

    def follows() -> bool:
        found[:] = generations(node)
        return bool(_serving(found) - before)

    if not wait(follows, within):
        for pid in set(node.pids("tunnel")) - before:
            _end(pid)
        raise LabError(
            f"the new tunnel of {node.name} does not serve after {within:.0f} s, the former one does; "
            f"the end of {node.log('tunnel')} tells why"
        )
    for pid in before - {one["pid"] for one in found}:
        _end(pid)


def generations(node: Node) -> Generations:
    """The processes that carry connections of a node; none while one follows another.

    Fields are those of `protocols.report.Generation`.
    """
    try:
        found: Generations = json.loads(node.fetch(_ADMIN_PORT, "/check"))["generations"]
    except LabError:
        return []
    return found


def _run(node: Node, role: str, checkout: Path | None, *options: str) -> None:
    version = ["env", f"PYTHONPATH={checkout}"] if checkout else []
    mesh.run(node.state, node.place, role, [*version, *mesh.command(node.state, node.place, role), *options])


def _serving(found: Generations) -> set[int]:
    return {one["pid"] for one in found if one["stage"] == "serving"}


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
