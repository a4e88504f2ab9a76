"""A check: its name, what it looks at, and what to do where it fails."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.cli.health import Parts
from agent.node.features import Feature
from agent.node.view import NodeView

PAGE = "docs/checks.md"
Answer = str | bool | None  # True: well; text: what is wrong; None: cannot be known here
State = Literal["well", "wrong", "note", "unknown"]


@dataclass(frozen=True)
class Seen:
    """What is looked at. parts, view, cluster: None where nobody asked or they cannot be seen.

    proc: of the host; cni: folders of the CNI's configurations and plugins; cluster: lists of objects by
    resource, and `now` of the API server.
    """

    features: tuple[Feature, ...] = ()
    parts: Parts | None = None
    view: NodeView | None = None
    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    bpffs: Path = Path("/sys/fs/bpf/warren")
    cni: tuple[Path, Path] = (Path("/etc/cni/net.d"), Path("/opt/cni/bin"))
    cluster: dict[str, Any] | None = None

    def read(self, path: str) -> str:
        """A file of procfs, without its end. Raises OSError."""
        return (self.proc / path).read_text().strip()


@dataclass(frozen=True)
class Check:
    """name: GROUP.THING, also its anchor in `PAGE`. before: it can be looked at before installing.

    told: its failure is told by the agent, the tunnel or the kernel in their own words.
    """

    name: str
    asks: str
    remedy: str
    probe: Callable[[Seen], Answer]
    failing: Literal["wrong", "note"] = "wrong"
    before: bool = False
    told: bool = False

    @property
    def page(self) -> str:
        """Where there is more about it."""
        return f"{PAGE}#{self.name.replace('.', '')}"


@dataclass(frozen=True)
class Result:
    """said: what was found, empty where all is well."""

    check: Check
    state: State
    said: str = ""

    @property
    def line(self) -> str:
        """For the one who is to put it right."""
        return f"{self.check.name}: {self.said}: {self.check.remedy} ({self.check.page})"


def run(checks: Iterable[Check], seen: Seen) -> list[Result]:
    """All of them; one that cannot look is unknown, and says why."""
    return [_run(check, seen) for check in checks]


def _run(check: Check, seen: Seen) -> Result:
    try:
        answer = check.probe(seen)
    except (OSError, ValueError, KeyError, IndexError) as error:
        return Result(check, "unknown", str(error))
    if answer is None:
        return Result(check, "unknown")
    if answer is True:
        return Result(check, "well")
    return Result(check, check.failing, answer or "not so")
