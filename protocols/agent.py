"""What an agent answers at its admin socket, in JSON: `agent.inspection` writes it, the CLI reads it."""

from typing import Any

from msgspec import Struct


class PodState(Struct, frozen=True):
    """A pod of the node. excluded: why it is not to be captured, empty if it is; failing: why it is not yet.

    captured: every step has been taken. netns: where its namespace is known to be, else empty.
    """

    namespace: str
    name: str
    service_account: str
    addresses: tuple[str, ...]
    excluded: str
    captured: bool
    failing: str
    netns: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Subscriber(Struct, frozen=True):
    """A type of resource of a tunnel. current: it has accepted everything as it is now.

    version: of the configuration when it last accepted something, None before that; rejected: why it has
    refused the last, empty if it has not.
    """

    client: str
    type: str
    current: bool
    version: str | None
    rejected: str


class Configuration(Struct, frozen=True):
    """What the agent serves. stale: seconds for which the source has not been heard; objects: by kind.

    age: seconds since the configuration last changed.
    resources: by type URL, version by name. refused: objects that are not in force, and why; partial: those
    that are in force in part.
    """

    version: str
    age: float
    source: str
    stale: float
    objects: dict[str, int]
    resources: dict[str, dict[str, str]]
    subscribers: tuple[Subscriber, ...]
    refused: tuple[str, ...]
    partial: tuple[str, ...]


class Logging(Struct, frozen=True):
    """level: debug, info, warning or error."""

    level: str


class MapLink(Struct, frozen=True):
    """Where the live map is served; empty: nowhere."""

    link: str


class Runs(Struct, frozen=True):
    """Of a program in the kernel, as far as somebody had them counted (`bpf.stats`)."""

    times: int
    seconds: float


class Cost(Struct, frozen=True):
    """CPU seconds: the agent's, of each cgroup of a tunnel by its id, and of programs in the kernel."""

    agent: float
    tunnels: dict[str, float]
    programs: dict[str, Runs]


class Kernel(Struct, frozen=True):
    """What the node's kernel holds, as the agent sees it. pods: by netns cookie; programs: attached or not.

    verdicts: what its programs decided, how often. problems: what is not as it should be, a line each.
    """

    programs: dict[str, bool]
    pods: dict[str, dict[str, Any]]
    verdicts: dict[str, int]
    problems: tuple[str, ...]
