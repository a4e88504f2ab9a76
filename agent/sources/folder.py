"""`dir:PATH`: a folder of manifests is a cluster. Read again when it changes; the last good state stays."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.errors import SettingsError
from agent.inotify import Watch
from agent.model.engine.refusal import last_good, standing
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key, Object
from agent.sources import manifests, whole
from agent.sources.documents import Problem
from agent.sources.source import Changes, Health

NETNS = "warren.dev/netns"
_SUFFIXES = (".yaml", ".yml", ".json")
_SETTLE = 0.02  # seconds: writers touch several files in a row
_RETRY = 1.0  # seconds, while the folder itself is away
log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class Rejected(NamedTuple):
    """An object or file that is not used. `line` counts from 1; `key` is None when it cannot be told."""

    file: Path
    line: int
    key: Key | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key or 'document'}: {self.reason}"


class _File(NamedTuple):
    stamp: _Stamp | None  # what told that it is unchanged; None: it could not be read
    objects: dict[Key, Object]
    problems: list[Problem]


class Folder:
    """The objects in the *.yaml, *.yml and *.json files below a folder, without hidden ones."""

    def __init__(self, root: Path) -> None:
        """Raises SettingsError when `root` is no folder that can be read."""
        if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
            raise SettingsError(f"--source dir:{root}: no folder that can be read; make it first")
        self._root = root
        self._watch = Watch()
        self._files: dict[Path, _File] = {}
        self._holders: dict[Key, list[Path]] = {}  # of one object; the first one counts
        self._strangers: set[tuple[str, str]] = set()
        self._away_since: float | None = None
        self.rejected: list[Rejected] = []

    @property
    def health(self) -> Health:
        """How long the folder has been away."""
        return Health(0 if self._away_since is None else time.monotonic() - self._away_since)

    async def changes(self) -> AsyncGenerator[Changes, None]:
        """First everything there is, then what changes; nothing when only `rejected` is different."""
        yield await asyncio.to_thread(self.refresh)
        while True:
            await self._touched()
            await asyncio.sleep(_SETTLE)
            rejected = self.rejected
            changed = await asyncio.to_thread(self.refresh)
            if changed or rejected != self.rejected:
                yield changed

    def refresh(self) -> Changes:
        """Read what changed since the last call, and say which objects are different."""
        touched = self._watch.read()
        try:
            present = dict(self._walk(self._root))
        except OSError as error:
            if self._away_since is None:
                log.error("source unreachable, the last good state stays in force: %s", error)
                self._away_since = time.monotonic()
            return []
        self._away_since = None
        concerned: set[Key] = set()
        before: dict[Key, Object | None] = {}
        for path in sorted({*present, *self._files}):
            known = self._files.get(path)
            stamp = present.get(path)
            if known and known.stamp == stamp and stamp is not None and path not in touched:
                continue
            file = self._read(path, stamp, known) if path in present else None
            keys = {*(known.objects if known else ()), *(file.objects if file else ())}
            for key in keys - concerned:
                before[key] = self._object(key)
            concerned |= keys
            self._exchange(path, file)
        self._report()
        return [(key, now) for key in sorted(concerned) if (now := self._object(key)) != before[key]]

    def close(self) -> None:
        self._watch.close()

    async def _touched(self) -> None:
        """Until something is touched, or it is time to look whether the folder is there again."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._watch.fileno(), readable.set)
        try:
            async with asyncio.timeout(_RETRY if self._away_since is not None else None):
                await readable.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self._watch.fileno())

    def _walk(self, directory: Path) -> Iterator[tuple[Path, _Stamp]]:
        """All manifests, and what tells their versions apart. Watched first, listed then: none is missed."""
        self._watch.add(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._walk(Path(entry.path))
                    elif entry.name.endswith(_SUFFIXES) and entry.is_file():
                        status = entry.stat()
                        yield Path(entry.path), (status.st_mtime_ns, status.st_size, status.st_ino)
                except FileNotFoundError:
                    continue  # gone since it was listed

    def _read(self, path: Path, stamp: _Stamp | None, known: _File | None) -> _File:
        """The file as it is now. What is bad keeps its last good version, or strictest reading."""
        former = known.objects if known else {}
        try:
            manifest = manifests.parse(whole.read(path))
        except OSError as error:
            problem = Problem(1, None, f"cannot be read: {error.strerror}")
            return _File(None, former, [problem])
        for stranger in sorted(manifest.strangers - self._strangers):
            self._strangers.add(stranger)
            group, kind = stranger
            level = logging.WARNING if manifests.is_of_the_mesh(group) else logging.DEBUG
            log.log(level, "not acted on by this version: %s (%s), in %s", kind, group or "v1", path)
        bad = {problem.key: problem.reason for problem in manifest.problems}
        kept = {
            key: last_good(item, bad[key]) or manifest.refused.get(key) or item if key in bad else item
            for key, item in former.items()
            if key in bad or None in bad
        }
        return _File(stamp, {**manifest.refused, **kept, **manifest.objects}, manifest.problems)

    def _exchange(self, path: Path, file: _File | None) -> None:
        """Put a file in the place of its former version; None: it is gone."""
        former = self._files.pop(path, None)
        for key in former.objects if former else {}:
            if file is None or key not in file.objects:
                self._holders[key].remove(path)
                if not self._holders[key]:
                    del self._holders[key]
        if file is None:
            return
        self._files[path] = file
        for key in file.objects:
            holders = self._holders.setdefault(key, [])
            if path not in holders:
                holders.append(path)

    def _object(self, key: Key) -> Object | None:
        holders = self._holders.get(key)
        return self._files[holders[0]].objects[key] if holders else None

    def _report(self) -> None:
        """Bring `rejected` up to date; what is new in it is logged once."""
        now = sorted({*self._refused(), *self._shadowed()}, key=str)
        for rejection in now:
            if rejection not in self.rejected:
                item = self._object(rejection.key) if rejection.key else None
                good = item is not None and not standing(item)
                log.warning("rejected %s%s", rejection, "; a good version stays in force" if good else "")
        self.rejected = now

    def _refused(self) -> Iterator[Rejected]:
        for path, file in self._files.items():
            for line, key, reason in file.problems:
                item = file.objects.get(key) if key else None
                yield Rejected(path, line, key, f"{reason}{standing(item)}")

    def _shadowed(self) -> Iterator[Rejected]:
        for key, (first, *others) in self._holders.items():
            for path in others:
                yield Rejected(path, 1, key, f"also in {first}, which takes precedence: remove one of them")


def netns_of(pod: Pod) -> Path | None:
    """Where this source says that a pod's network namespace is.

    Only a folder may say so: on a cluster everyone who makes pods could point at any namespace of the node.
    """
    text = pod.metadata.annotations.get(NETNS)
    return Path(text) if text else None
