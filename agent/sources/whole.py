"""Files as their writers leave them: half of a policy may well be read, and mean something else."""

import errno
import fcntl
import signal
from pathlib import Path


def read(path: Path) -> bytes:
    """All of a file. Raises OSError, also while somebody has it open for writing.

    A read lease (fcntl(2), F_SETLEASE) is given while nobody has; who opens the file for writing then waits
    until it is read. Where there are no leases (other filesystems, other users' files) it is read as it is.
    """
    with path.open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # to be told by: ignored, while SIGIO would end us
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "it is being written", str(path)) from None
        except OSError:
            pass  # no leases
        return file.read()
