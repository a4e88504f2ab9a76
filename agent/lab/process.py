"""How a process gets into its place: control group first, then network namespace, then a pod's own /etc.

The steps are those of a container runtime, done by `sh`, util-linux' `nsenter` and `unshare`: nothing runs
between fork and exec in this process, which may have threads. A process that should stay (a pod's, an
agent) is nobody's child and is found again by its control group, where the kernel itself keeps book of it.
"""

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.lab import cgroups
from agent.lab.errors import LabError
from agent.lab.waiting import wait

# As in a container, a process may have as many open files as the machine allows.
_JOIN = 'ulimit -n 1048576 2> /dev/null || ulimit -n "$(ulimit -Hn)"; echo 0 > "$0/cgroup.procs" && exec "$@"'
# $0 is a folder of files to lay over those of the same name in /etc, in a mount namespace of its own.
_OVERLAY = """
for file in "$0"/*; do
    [ ! -e "/etc/${file##*/}" ] || mount --bind "$file" "/etc/${file##*/}" || exit 126
done
cat "$0/hostname" > /proc/sys/kernel/hostname
exec "$@"
"""


def in_cgroup(cgroup: Path, argv: Sequence[str]) -> list[str]:
    """`argv`, run in a control group."""
    return ["sh", "-c", _JOIN, str(cgroup), *argv]


def in_network(netns: Path, argv: Sequence[str]) -> list[str]:
    """`argv`, run in a network namespace."""
    return ["nsenter", f"--net={netns}", "--", *argv]


def over_etc(etc: Path, argv: Sequence[str]) -> list[str]:
    """`argv`, run with a host name and the files in `etc` of its own.

    Mounts of the machine that end, end here too.
    """
    own = ["unshare", "--mount", "--uts", "--propagation", "slave", "--"]
    return [*own, "sh", "-c", _OVERLAY, str(etc), *argv]


def start(cgroup: Path, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
    """Start a process that outlives this one, in `cgroup` when this returns.

    Raises LabError when that fails.
    """
    with log.open("ab") as output:
        done = subprocess.run(
            in_cgroup(cgroup, ["setsid", "--fork", *argv]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            check=False,
        )
    if done.returncode:
        raise LabError(f"{shlex.join(argv)} does not start:\n{tail(log)}")


def await_ready(ready: Callable[[], bool], what: str, cgroup: Path, log: Path, within: float) -> None:
    """Wait until `ready()`.

    Raises LabError with the end of the log when the process ends first, or time does.
    """

    def decided() -> bool:
        return ready() or not cgroups.populated(cgroup)

    if not wait(decided, within):
        raise LabError(f"{what} is not ready after {within:.0f} s; the end of {log}:\n{tail(log)}")
    if not cgroups.populated(cgroup):
        raise LabError(f"{what} has ended; the end of {log}:\n{tail(log)}")


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented; "(empty)" for one that holds nothing."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty)"


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def listening_ports(pid: int) -> set[int]:
    """TCP ports at which a process listens itself; none when it has ended."""
    root = Path(f"/proc/{pid}")
    try:
        sockets = {str(fd.readlink()) for fd in (root / "fd").iterdir()}
        text = (root / "net/tcp").read_text() + (root / "net/tcp6").read_text()
    except OSError:
        return set()
    # proc_net_tcp(5): local address and port, state (0A: listening), inode
    return {
        int(field[1].rpartition(":")[2], 16)
        for field in map(str.split, text.splitlines())
        if field[3] == "0A" and f"socket:[{field[9]}]" in sockets
    }
