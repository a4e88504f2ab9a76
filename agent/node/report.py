"""What an agent tells `warren check`: why it is not ready, what is not in force, what the kernel holds."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from agent.node.enrolment import Enrolment
from agent.node.view import NodeView, Wanted

MOST = 20  # objects that are told of one sort


class Report(Struct, frozen=True):
    """unready: why nothing new is let in, a line each; empty when the agent is ready.

    refused: objects that are not in force as they stand, and why; partial: those that are in force in part;
    rejected: what a tunnel did not take of the configuration; at most `MOST` of each. version: of the
    package. stale: seconds for which the source has not been heard. objects: how many are in force.
    view: the node as the agent sees it.
    """

    unready: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    refused: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    version: str = ""
    stale: float = 0
    objects: int = 0
    view: NodeView | None = None


def wanted(enrolment: Enrolment) -> tuple[Wanted, ...]:
    """The pods of the node that are to be captured."""
    return tuple(
        Wanted(str(pod), str(pod.netns), tuple(map(str, pod.addresses)), enrolment.failing.get(pod.uid, ""))
        for pod in enrolment.wanted()
    )


def first(lines: Iterable[object], count: int) -> tuple[str, ...]:
    """`MOST` of so many lines, and how many more there are."""
    told = [str(line) for line, _ in zip(lines, range(MOST), strict=False)]
    return (*told, f"{count - MOST} more, see the agent's log") if count > MOST else tuple(told)


def encode(report: Report) -> str:
    """As JSON."""
    return msgspec.json.encode(report).decode()
