"""What the Python half of a tunnel says of itself at its admin port; what its core says is in `admin`.

Apart from it, so that a tunnel does not load what it leaves to its core: 0.7 MB.
"""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class Link:
    """The tunnel's connection to the agent: whether it knows all pods, and is sent configuration.

    configuration_lacks: types of which not all has been received since its start.
    """

    pods: bool
    configuration: bool
    configuration_lacks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Served:
    """Pods: how many are served, and why others cannot be, by `namespace/name`."""

    served: int
    pending: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Certificate:
    """until: Unix seconds, None without one. problem: why the last request for it failed."""

    identity: str
    until: int | None
    problem: str = ""


@dataclass(frozen=True)
class Authority:
    """problem: why the CA cannot be reached now; empty: it can."""

    url: str
    problem: str = ""


class Stage(StrEnum):
    """How far a generation is."""

    STANDBY = "standby"
    SERVING = "serving"
    RETIRED = "retired"


@dataclass(frozen=True)
class Generation:
    """One process that carries connections, of those of a node that follow each other without loss.

    number: of later ones it is higher. resident: bytes; cpu: seconds; since: Unix seconds of its start.
    retired, ends: Unix seconds since when it accepts no more, and when what is open then is cut; 0: neither.
    outlasts: it goes on when its container ends.
    """

    number: int
    pid: int
    version: str
    stage: Stage
    connections: int = 0
    resident: int = 0
    descriptors: int = 0
    cpu: float = 0.0
    since: float = 0.0
    retired: float = 0.0
    ends: float = 0.0
    outlasts: bool = False


@dataclass(frozen=True)
class Report:
    """GET /check. problems: what is wrong beside the parts above it.

    generations: all of this node, where there is a keeper of its listeners.
    """

    version: str
    draining: bool
    agent: Link
    pods: Served
    certificates: list[Certificate]
    authority: Authority
    problems: list[str] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)


@dataclass(frozen=True)
class Version:
    """GET /version."""

    name: str
    version: str
