"""What agent and tunnel of this node know, for the commands that show it; one of them may be down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agent.cli.admin_client import TUNNEL, NoAgent, NoTunnel, ask, ask_agent
from agent.cli.command import option
from agent.cli.types import FOLDER
from agent.errors import WarrenError
from protocols.admin import Dump, Flows, Versions
from protocols.agent import Configuration, Cost, Kernel, PodState
from protocols.report import Report

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_tunnel = option("--tunnel", default=TUNNEL, help="where the tunnel answers: its admin port")
_run_dir = option("--run-dir", type=FOLDER, default="/run/warren", help="the agent's folder for its sockets")


def of_tunnel(command: F) -> F:
    """The option that says where the tunnel answers."""
    return _tunnel(command)


def of_node(command: F) -> F:
    """The options that say where both answer."""
    return _tunnel(_run_dir(command))


class Node:
    """Both of them. `notes`: what could not be found out, and why."""

    def __init__(self, tunnel: str, run_dir: Path = Path("/run/warren")) -> None:
        self._tunnel = tunnel
        self._run_dir = run_dir
        self.notes: list[str] = []

    def dump(self) -> Dump | None:
        """The tunnel's configuration in force."""
        return self.known(lambda: ask(self._tunnel, "/config_dump", Dump))

    def report(self) -> Report | None:
        """What the tunnel says of itself."""
        return self.known(lambda: ask(self._tunnel, "/check", Report))

    def connections(self) -> list[dict[str, Any]] | None:
        """Those that are open."""
        return self.known(lambda: ask(self._tunnel, "/connections", list[dict[str, Any]]))

    def pods(self) -> list[PodState] | None:
        """The pods of this node, as the agent knows them."""
        return self.known(lambda: ask_agent(self._run_dir, "/pods", list[PodState]))

    def configuration(self) -> Configuration | None:
        """What the agent serves."""
        return self.known(lambda: ask_agent(self._run_dir, "/configuration", Configuration))

    def kernel(self) -> Kernel | None:
        """What the kernel holds, as the agent sees it."""
        return self.known(lambda: ask_agent(self._run_dir, "/kernel", Kernel))

    def cost(self) -> Cost | None:
        """What the mesh has taken of this node's CPUs."""
        return self.known(lambda: ask_agent(self._run_dir, "/cost", Cost))

    def versions(self) -> Versions | None:
        """Which version of each resource the tunnel holds."""
        return self.known(lambda: ask(self._tunnel, "/versions", Versions))

    def flows(self) -> Flows | None:
        """What has ended lately."""
        return self.known(lambda: ask(self._tunnel, "/flows", Flows))

    @property
    def code(self) -> int:
        """Of the process: 2 if the answer is incomplete."""
        return 2 if self.notes else 0

    def known(self, question: Callable[[], T]) -> T | None:
        """What is answered; None, and a note, where nobody does."""
        try:
            return question()
        except (NoTunnel, NoAgent) as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))
            return None


def need(found: T | None, node: Node) -> T:
    """Of that without which there is nothing to show. Raises WarrenError."""
    if found is None:
        raise _Nothing("; ".join(node.notes))
    return found


class _Nothing(WarrenError):
    exit_code = 2
