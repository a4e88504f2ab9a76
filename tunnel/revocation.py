"""The file of certificate revocation lists: in force as soon as it changes, as Istio's `CRL_PATH` is.

A file that is not there when we start, or is empty, means that there are no lists: its ConfigMap is optional,
and istiod publishes an empty file where nothing is revoked. One that cannot be used means that nobody is
believed. What is in force stays in force when the file becomes unusable, or goes; to withdraw the last list,
publish one that revokes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tunnel._core import Core
from tunnel.counters import Counters

log = logging.getLogger("warren.revocation")

_LOOK_EVERY = 1.0  # seconds
_LARGEST = 64 * 1024 * 1024  # bytes
Stamp = tuple[int, int, int, int]


class RevocationLists:
    """`changed` is called after each change, with our identities whose own certificate is revoked."""

    def __init__(
        self, core: Core, path: Path | None, counters: Counters, changed: Callable[[list[str]], None]
    ) -> None:
        self._core = core
        self._path = path
        self._counters = counters
        self._changed = changed
        self._seen: Stamp | Literal["nothing"] | None = "nothing"
        self._lists = 0  # in force
        self._decided = path is None
        self.problem = ""  # why what the file holds is not in force

    @property
    def pending(self) -> list[str]:
        """What is waited for before anybody is believed."""
        return [] if self._decided else [f"certificate revocation list ({self.problem or 'not read yet'})"]

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be, although peers are believed."""
        return [f"certificate revocation list {self.problem}"] if self._decided and self.problem else []

    async def follow(self) -> None:
        """Have what the file holds in force, at once and each time that it changes."""
        while self._path:
            await self._look(self._path)
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self, path: Path) -> None:
        try:
            stamp = _stamp(path)
            if stamp == self._seen:
                return
            self._seen = "nothing"  # until it is known what comes of it
            await self._take(path, stamp)
        except OSError as error:
            return self._lack(f"{path}: {error.strerror or error}")
        except ValueError as error:
            self._lack(f"{path}: {error}")
        self._seen = stamp

    async def _take(self, path: Path, stamp: Stamp | None) -> None:
        """Raises OSError, ValueError."""
        data = await asyncio.to_thread(_read, path) if stamp else b""
        if not data.strip() and self._lists:
            raise ValueError("the file is empty" if stamp else "the file is gone")
        self._lists, next_update = await asyncio.to_thread(self._core.set_crl, data if data.strip() else None)
        self._decided, self.problem = True, ""
        self._counters.crl_reads.add("OK" if stamp else "NONE")
        self._counters.crl_current.set(1)
        self._counters.crl_next_update.set(next_update or 0)
        log.info("%s: %s in force", path, _described(self._lists, next_update))
        self._changed(await asyncio.to_thread(self._core.revoked))

    def _lack(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        self._core.lack_crl(problem)
        self._counters.crl_reads.add("FAILED")
        self._counters.crl_current.set(0)
        stays = "what was in force stays" if self._decided else "no peer is believed until it can be used"
        log.error("certificate revocation list %s; %s", problem, stays)


def _stamp(path: Path) -> Stamp | None:
    """Changes with the file, also when a link on the way leads elsewhere. None: no file. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> bytes:
    """Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"more than {_LARGEST} bytes")
    return data


def _described(lists: int, next_update: int | None) -> str:
    if not lists:
        return "no certificate revocation list"
    until = f", to be renewed by {time.strftime('%FT%TZ', time.gmtime(next_update))}" if next_update else ""
    return f"{lists} certificate revocation list{'s' if lists > 1 else ''}{until}"
