"""Where the kubelet is: the cgroup from which its probes come.

It is stated, or found among the host's processes by name. A name proves nothing, so a process counts only if
it is root's, in no pod's cgroup, and in the host's own process namespace: a pod can start none that is all
three. The kubelet may come later than the agent, restart into a new cgroup of the same path, or move: it is
looked for as long as the agent runs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from agent.errors import WarrenError, describe
from agent.node.cgroups import cgroup_of
from agent.node.errors import DatapathError, NodeError

log = logging.getLogger(__name__)

# kubelet: also k0s', RKE2's and Talos'. The others have the kubelet inside: k3s, microk8s.
NAMES = frozenset({"kubelet", "k3s", "k3s-server", "k3s-agent", "kubelite"})
_PODS = "kubepods"  # in the path of every pod's cgroup, whichever driver the kubelet uses
_AGAIN, _SEARCH = 1.0, 5.0  # seconds between two looks: at the one that is known, at all processes
_REMEDY = (
    "its probes of captured pods are treated like anybody's plaintext, which STRICT refuses; "
    "name its cgroup with --kubelet-cgroup"
)


class Kubelet:
    """`stated`: its cgroup; None to look for it. `below`: the cgroup that the programs are attached to."""

    def __init__(self, below: Path, stated: Path | None, proc: Path = Path("/proc")) -> None:
        self._below = below
        self._stated = stated
        self._proc = proc
        self._pid = 0

    def cgroup(self) -> Path:
        """Where it is now; cheap as long as it is the same process. Raises NodeError with a remedy."""
        if self._stated:
            if not self._stated.is_dir():
                raise NodeError(f"--kubelet-cgroup {self._stated}: there is none yet: start the kubelet")
            return self._stated
        if not self._is_kubelet(self._pid):
            self._pid = self._search()
        return cgroup_of(self._pid, self._below, self._proc)

    def _search(self) -> int:
        found, outside = {}, ""
        for pid in self._pids():
            if self._is_kubelet(pid):
                try:
                    found[cgroup_of(pid, self._below, self._proc)] = pid
                except DatapathError as error:
                    outside = f": {error}"
        if len(found) > 1:
            places = " and ".join(sorted(map(str, found)))
            raise NodeError(f"kubelets are in several cgroups, {places}: {_REMEDY}")
        if not found:
            raise NodeError(f"no kubelet found{outside}: {_REMEDY}")
        return found.popitem()[1]

    def _pids(self) -> Iterator[int]:
        return (int(entry.name) for entry in self._proc.iterdir() if entry.name.isdecimal())

    def _is_kubelet(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            if (self._proc / f"{pid}/comm").read_text().strip() not in NAMES:
                return False
            lines = (self._proc / f"{pid}/status").read_text().splitlines()
            status = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
            of_root, of_host = set(status["Uid"]) == {"0"}, len(status["NSpid"]) == 1
            return of_root and of_host and _PODS not in (self._proc / f"{pid}/cgroup").read_text()
        return False


async def follow(kubelet: Kubelet, trust: Callable[[Path], Awaitable[None]]) -> None:
    """Have the cgroup trusted that the kubelet is in, whenever it is another one. Runs for ever."""
    known: tuple[Path, int] | None = None
    said = ""
    while True:
        try:
            cgroup = await asyncio.to_thread(kubelet.cgroup)
            place = cgroup, cgroup.stat().st_ino
            if place != known:
                await trust(cgroup)
                log.info("the kubelet's probes come from cgroup %s", cgroup)
            known, said = place, ""
        except (WarrenError, OSError) as error:
            known = None
            if (text := describe(error)) != said:
                log.warning("%s", text)
                said = text
        await asyncio.sleep(_AGAIN if known else _SEARCH)
