"""What an agent tells `warren check`: why it is not ready, and which pods of the node are to be captured."""

from collections.abc import Iterable, Sequence
from http.client import HTTPException
from urllib.request import urlopen

import msgspec
from msgspec import Struct

from agent.node.enrolment import Enrolment

_ANSWER = 5.0  # seconds
_MOST = 20  # refused objects that are told


class Wanted(Struct, frozen=True):
    """A pod. failing: why it is not enrolled, empty where it is."""

    name: str  # with its namespace
    netns: str
    addresses: tuple[str, ...]
    failing: str = ""


class Report(Struct, frozen=True):
    """unready: why nothing new is let in, a line each; empty when the agent is ready.

    refused: objects that are not in force as they stand, and why, at most `_MOST`.
    """

    unready: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    refused: tuple[str, ...] = ()


def report(unready: Iterable[str], refused: Sequence[object], enrolment: Enrolment) -> str:
    """As JSON."""
    pods = (
        Wanted(str(pod), str(pod.netns), tuple(map(str, pod.addresses)), enrolment.failing.get(pod.uid, ""))
        for pod in enrolment.wanted()
    )
    lines = [str(one) for one in refused[:_MOST]]
    if len(refused) > _MOST:
        lines.append(f"{len(refused) - _MOST} more, see the agent's log")
    return msgspec.json.encode(Report(tuple(unready), tuple(pods), tuple(lines))).decode()


def ask(agent: str) -> Report | None:
    """What the agent at this URL says; None when none answers there."""
    try:
        with urlopen(f"{agent}/check", timeout=_ANSWER) as answer:
            return msgspec.json.decode(answer.read(), type=Report)
    except (OSError, ValueError, msgspec.MsgspecError, HTTPException):
        return None
