"""What an agent tells `warren check`: which pods of the node are to be captured."""

import msgspec
from msgspec import Struct

from agent.node.enrolment import Enrolment


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


def read_wanted(text: bytes) -> list[Wanted]:
    """What `wanted` wrote. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=list[Wanted])
