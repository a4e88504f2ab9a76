"""A second agent or tunnel beside a node's own, as an upgrade starts it."""

from agent.lab import mesh
from agent.lab.members import Node
from tests.support.wait import until

MORE = {
    "agent": ["--standby", "--metrics-port=15114"],
    "tunnel": ["--admin-port=15100", "--metrics-port=15120", "--ready-port=15121"],
}
READY = {"agent": 15114, "tunnel": 15121}


def start(node: Node, *roles: str) -> dict[str, list[int]]:
    """Start a successor for each of these, and wait until they are ready. Gives the pids of the old ones."""
    old = {role: node.pids(role) for role in roles}
    for role in roles:
        argv = [*mesh.command(node.state, node.place, role), *MORE[role]]
        mesh.run(node.state, node.place, role, argv)
    for role in roles:
        until(lambda: mesh.says_ready(node.place, READY[role]), what=f"the new {role} is ready")  # noqa: B023
    return old
