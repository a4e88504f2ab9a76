"""What an agent tells `warren check`: which pods of the node are to be captured."""

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


def wanted(enrolment: Enrolment) -> str:
    """As JSON."""
    pods = [
        Wanted(str(pod), str(pod.netns), tuple(map(str, pod.addresses)), enrolment.failing.get(pod.uid, ""))
        for pod in enrolment.wanted()
    ]
    return msgspec.json.encode(pods).decode()


def ask_wanted(agent: str) -> list[Wanted] | None:
    """What the agent at this URL says; None when none answers there."""
    try:
        with urlopen(f"{agent}/pods", timeout=_ANSWER) as answer:
            return msgspec.json.decode(answer.read(), type=list[Wanted])
    except (OSError, ValueError, msgspec.MsgspecError, HTTPException):
        return None
