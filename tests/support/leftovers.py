"""What a lab could leave behind on a machine."""

from pathlib import Path

from agent.lab import cgroups


def leftovers(name: str, prefix: str | None = None) -> list[str]:
    """Everything that is there of the lab `name`, whose network namespaces' names begin with `prefix`."""
    prefix = prefix or name
    netns = Path("/run/netns")
    names = [entry.name for entry in netns.iterdir()] if netns.exists() else []
    found = [f"netns {entry}" for entry in names if entry.startswith(f"{prefix}-")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if f"/warren/{name}" in line or f"/{prefix}-" in line]
    found += [
        str(path)
        for path in (Path("/run/warren") / name, cgroups.mount_point() / f"warren-{name}")
        if path.exists()
    ]
    # A process that has ended and waits for init to take note of it has no command line.
    found += [
        f"process {pid}"
        for pid in _processes()
        if f"/warren-{name}" in _read(f"/proc/{pid}/cgroup") and _read(f"/proc/{pid}/cmdline")
    ]
    return found


def links() -> set[str]:
    """The links in the machine's own network namespace."""
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def _processes() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
