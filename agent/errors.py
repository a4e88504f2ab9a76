"""Errors whose text is for people: one line that names the thing and the remedy."""

import errno
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RIGHTS = "run it as root, in a container with the capabilities of deploy/daemonset/node.yaml"
_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or raise the quota",
    errno.EROFS: "mount it writable",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE)",
    errno.ENFILE: "raise the sysctl fs.file-max",
    errno.ENOMEM: "free memory, or raise the container's limit",
}
_OURS = ("agent.", "bpf.", "tunnel.")


class WarrenError(Exception):
    """What a user is told, as it stands. `exit_code` is the process's, 1 to 125."""

    exit_code = 1


class SettingsError(WarrenError):
    """One or more settings that cannot be used; the text has one line for each."""

    exit_code = 2


def describe(error: Exception) -> str:
    """An error's text; of one of the system's the place, the reason, and what helps where that is known."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    remedy = f"; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
    return f"{place}{error.strerror}{remedy}"


def explain(error: Exception) -> str:
    """An error's text. Ours and the system's speak for themselves; what should not be says where it was."""
    while isinstance(error, ExceptionGroup):  # of tasks side by side: the first ended the rest
        error = error.exceptions[0]
    if type(error).__module__.startswith(_OURS) or isinstance(error, OSError):
        return describe(error)
    if isinstance(error, ModuleNotFoundError):
        return f"the Python module {error.name} is missing: install warren-mesh with its dependencies"
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"internal error, please report it: {type(error).__name__}: {error} ({where})"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system's that does not say where, such as that of a write, name this path."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
