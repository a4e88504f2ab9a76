"""Taking a lab away: whole, half made, or with any part of it dead. Each step may have been done before."""

import shutil
from contextlib import suppress
from pathlib import Path

from agent.errors import WarrenError
from agent.lab import cgroups, kernel, topology
from agent.lab.api import Api
from agent.lab.errors import LabError
from agent.lab.state import State

_GRACE = 2.0  # seconds that agents, tunnels and the CA get to end by themselves


def take_down(state: State) -> None:
    """Remove all that a lab's state names.

    Raises LabError after that: for what stays, and for a tunnel that has panicked.
    """
    for node in state.nodes:
        cgroups.kill(state.cgroup / node.name / "pods")  # first, so that tunnels have no connection to drain
    cgroups.terminate(state.cgroup, _GRACE)
    cgroups.kill(state.cgroup)
    panics = _panics(state)
    stays = _withdraw(state)  # when nobody is left who would put back what is taken away
    while kernel.unmount(state.run / "bpf"):  # the last reference to pinned programs and maps
        pass
    topology.remove([*(node.netns for node in state.nodes), *(pod.netns for pod in state.pods)])
    if state.netns_directory_made:
        kernel.release_netns_directory()
    cgroups.remove(state.cgroup)
    # The state goes last: as long as anything may be left, it can be found.
    for entry in state.run.iterdir():
        if entry.name != "state.json":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with suppress(FileNotFoundError):
        (state.run / "state.json").unlink()
    if stays:
        raise LabError(f"objects of the lab may be left on the API server: {stays}")
    if panics:
        raise LabError("a tunnel of the lab has panicked: " + "; ".join(panics))


def _panics(state: State) -> list[str]:
    """What the tunnels' logs say of them."""
    logs = (state.run / "log").glob("*-tunnel.log")
    return [
        f"{log.stem}: {line}"
        for log in logs
        for line in log.read_text().splitlines()
        if " panicked at " in line
    ]


def _withdraw(state: State) -> str:
    """Take the lab's objects from its API server; gives what went wrong, which must not stop the rest."""
    try:
        if state.api:
            Api(Path(state.api), state.mark).withdraw(state.found)
    except WarrenError as error:
        return str(error)
    return ""
