"""What an agent tells `warren check`: why it is not ready, and which pods of the node are to be captured."""

from collections.abc import Iterable
from http.client import HTTPException
from urllib.request import urlopen

import msgspec
from msgspec import Struct

from agent.node.enrolment import Enrolment

_ANSWER = 5.0  # seconds


class Wanted(Struct, frozen=True):
    """A pod. failing: why it is not enrolled, empty where it is."""

    name: str  # with its namespace
    netns: str
    addresses: tuple[str, ...]
    failing: str = ""


class Report(Struct, frozen=True):
    """unready: why nothing new is let in, a line each; empty when the agent is ready."""

    unready: tuple[str, ...]
    wanted: tuple[Wanted, ...]


def report(unready: Iterable[str], enrolment: Enrolment) -> str:
    """As JSON."""
    pods = (
        Wanted(str(pod), str(pod.netns), tuple(map(str, pod.addresses)), enrolment.failing.get(pod.uid, ""))
        for pod in enrolment.wanted()
    )
    return msgspec.json.encode(Report(tuple(unready), tuple(pods))).decode()


def ask(agent: str) -> Report | None:
    """What the agent at this URL says; None when none answers there."""
    try:
        with urlopen(f"{agent}/check", timeout=_ANSWER) as answer:
            return msgspec.json.decode(answer.read(), type=Report)
    except (OSError, ValueError, msgspec.MsgspecError, HTTPException):
        return None
