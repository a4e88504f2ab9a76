"""Network namespaces and mounts: the few system calls that the standard library of Python 3.11 lacks."""

import ctypes
import errno
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from agent.lab.errors import LabError
from agent.node.netns import NetnsFd

T = TypeVar("T")

NETNS_DIRECTORY = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: Path, kind: str = "none", flags: int = 0) -> None:
    """mount(2) without data. Raises OSError that names `target`."""
    result = _libc.mount(source.encode(), bytes(target), kind.encode(), ctypes.c_ulong(flags), None)
    _checked(result, str(target))


def unmount(target: Path) -> bool:
    """Take the topmost mount off `target`, lazily. False when there is none."""
    return bool(_libc.umount2(bytes(target), _MNT_DETACH) == 0)


def in_netns(netns: Path, work: Callable[[], T]) -> T:
    """Run `work` inside the network namespace at `netns`, for instance to open a socket there.

    Raises NodeError when there is none, and what `work` raises.
    """
    with closing(NetnsFd.open(netns)) as opened:
        return opened.run(work)


def prepare_netns_directory() -> bool:
    """Make /run/netns a shared mount point, as ip-netns(8) would. True when it was not one before.

    Without it, the first `ip netns add` of anybody would put a second mount over each name that is there.
    """
    NETNS_DIRECTORY.mkdir(parents=True, exist_ok=True)
    try:
        mount("", NETNS_DIRECTORY, flags=_MS_SHARED | _MS_REC)
    except OSError as error:
        # EINVAL: it is no mount point. (mountinfo also lists one that another mount hides.)
        if error.errno != errno.EINVAL:
            raise
        mount(str(NETNS_DIRECTORY), NETNS_DIRECTORY, flags=_MS_BIND | _MS_REC)
        mount("", NETNS_DIRECTORY, flags=_MS_SHARED | _MS_REC)
        return True
    return False


def release_netns_directory() -> None:
    """Take away what `prepare_netns_directory` made, unless somebody else has put a name there since."""
    if NETNS_DIRECTORY.exists() and not any(NETNS_DIRECTORY.iterdir()):
        unmount(NETNS_DIRECTORY)
        with suppress(OSError):
            NETNS_DIRECTORY.rmdir()


def check_free(names: Iterable[str]) -> None:
    """Raises LabError for a network namespace that is there already: somebody else made it."""
    for name in names:
        if (NETNS_DIRECTORY / name).exists():
            raise LabError(f"a network namespace {name} is there, of no lab: `ip netns del {name}` first")


def add_netns(name: str) -> Path:
    """Make a network namespace that `ip netns` knows by `name`.

    Raises FileExistsError when the name is taken.
    """
    path = NETNS_DIRECTORY / name
    path.touch(mode=0o444, exist_ok=False)

    def body() -> None:
        _checked(_libc.unshare(_CLONE_NEWNET), name)
        mount("/proc/thread-self/ns/net", path, flags=_MS_BIND)

    with ThreadPoolExecutor(1) as thread:  # which is in the new namespace until it ends
        thread.submit(body).result()
    return path


def remove_netns(name: str) -> None:
    """Take the name away; without a process in it the kernel then frees the namespace. Idempotent."""
    path = NETNS_DIRECTORY / name
    while unmount(path):
        pass
    path.unlink(missing_ok=True)
