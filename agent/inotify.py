"""Notice that something changed below a folder: the kernel's inotify, through libc."""

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

# <sys/inotify.h>
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _IGNORED, _ONLYDIR = 0x400, 0x800, 0x8000, 0x1000000
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Directories whose entries are watched; readable (`fileno`) when something changed in one of them."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        self._paths: dict[int, Path] = {}

    def fileno(self) -> int:
        return self._fd

    def add(self, directory: Path) -> None:
        """Watch a directory as well. Again for the same one is harmless. Raises OSError."""
        watch = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK), str(directory))
        self._paths[watch] = directory

    def read(self) -> set[Path]:
        """What has been touched since the last call; more than that was, when the kernel lost count."""
        touched = set()
        for watch, mask, name in self._events():
            if mask & _IGNORED:
                self._paths.pop(watch, None)
            elif watch in self._paths:
                touched.add(self._paths[watch] / os.fsdecode(name))
        return touched

    def close(self) -> None:
        os.close(self._fd)

    def _events(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                return
            offset = 0
            while offset < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size
                yield watch, mask, data[offset : offset + length].rstrip(b"\0")
                offset += length


def _checked(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), what)
    return result
