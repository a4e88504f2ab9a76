"""Where a process is in the cgroup v2 hierarchy, as /proc has it."""

from pathlib import Path

PROC = Path("/proc")


def relative_cgroup(pid: int | str, proc: Path = PROC) -> str:
    """The path of a process' cgroup below the root of our cgroup namespace, without a slash at its front.

    Raises OSError when the process is gone.
    """
    lines = (proc / f"{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::"))


def namespace_mount(proc: Path = PROC) -> Path | None:
    """Where the root of our cgroup namespace is mounted; None: nowhere."""
    for line in (proc / "self/mountinfo").read_text().splitlines():
        root, point, kind = *line.split(" ")[3:5], line.partition(" - ")[2].partition(" ")[0]
        if kind == "cgroup2" and root == "/":
            return Path(point)
    return None
