"""A place of its own for each worker of pytest-xdist, so that what labs and tests have on a machine is apart.

A worker has its own loopback (two tests may have one port), and its own /run/netns and /run/warren. Cgroups,
processes and files stay common: tests name them by their process or below their own directory.
"""

import ctypes
import subprocess
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_OWN = ("/run/netns", "/run/warren")
_TRACEFS = Path("/sys/kernel/tracing")  # a machine has it mounted, a container as a rule has not


def leave_the_others() -> None:
    """The calling thread, and what it starts from now on, is in new namespaces for mounts and the network.

    Raises OSError without the right to it, CalledProcessError when the place cannot be furnished.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS | _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare: tests need root")
    _run("mount", "--make-rprivate", "/")
    for path in _OWN:
        Path(path).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "warren-tests", path)
    if not (_TRACEFS / "events").exists():
        _run("mount", "-t", "tracefs", "warren-tests", str(_TRACEFS))
    _run("ip", "link", "set", "lo", "up")


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)
