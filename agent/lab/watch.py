"""The lab's folder of manifests, as it is edited: what is saved there is in the lab within a second.

    python -m agent.lab.watch NAME

A process of a lab that was made with `--manifests`. What is wrong with a file is said by `warren lab status`;
the file's last good content stays in force.
"""

import logging
import sys
import time
from pathlib import Path

from agent import logs
from agent.errors import SettingsError, WarrenError
from agent.lab import manifests
from agent.lab.lab import Lab
from agent.lab.manifests import Manifest
from agent.lab.state import State, load, locked, write_atomically
from agent.model.schema.objects import Key

log = logging.getLogger("warren.lab")

_OTHERS = 120.0  # seconds for another command
_LOOK = 0.25  # seconds between two looks at the files, whatever kind of filesystem they are on
Stamp = tuple[int, int]
_AGAIN: Stamp = (0, 0)  # as no file has it: to be read at the next look, changed or not


class Files:
    """What manifests say, file by file."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._seen: dict[Path, Stamp] = {}
        self._good: dict[Path, list[Manifest]] = {}
        self.problems: dict[Path, str] = {}

    def read(self) -> bool:
        """Read what has changed since the last call; whether anything has."""
        now = {file: (found.st_mtime_ns, found.st_size) for file in self._files() if (found := file.stat())}
        if now == self._seen:
            return False
        for file in self._seen.keys() - now.keys():
            self._good.pop(file, None)
            self.problems.pop(file, None)
        for file in [file for file, stamp in now.items() if self._seen.get(file) != stamp]:
            try:
                self._good[file] = manifests.read([file])[0]
                self.problems.pop(file, None)
            except SettingsError as error:
                self.problems[file] = str(error)
            except OSError as error:
                self.problems[file] = f"{file}: cannot be read: {error.strerror}"
                now[file] = _AGAIN
        self._seen = now
        return True

    @property
    def manifests(self) -> dict[Key, Manifest]:
        """Of several of one object that of the first file."""
        found: dict[Key, Manifest] = {}
        for _, those in sorted(self._good.items()):
            for one in those:
                found.setdefault(one.key, one)
        return found

    def _files(self) -> list[Path]:
        return list(manifests.files(self._paths, []))


def follow(name: str) -> None:
    """Until the lab is gone. Raises LabError, OSError."""
    state = load(name)
    files, known = Files([Path(path) for path in state.manifests] if state else []), dict[Key, Manifest]()
    while state := load(name):
        if files.read():
            known = _apply(name, state, files, known)
        time.sleep(_LOOK)


def _apply(name: str, state: State, files: Files, known: dict[Key, Manifest]) -> dict[Key, Manifest]:
    """Have in the lab what the files say now; gives what of it is there."""
    now, problems = files.manifests, [*files.problems.values()]
    changed = [one for key, one in now.items() if key not in known or known[key].body != one.body]
    gone = [] if problems else [*known.keys() - now.keys()]  # what a bad file held is not gone
    try:
        with locked(name, within=_OTHERS):
            lab = Lab.open(name)
            lab.withdraw(gone)
            lab.put(changed)
        log.info("applied %d objects, deleted %d", len(changed), len(gone))
        known = now if not problems else {**known, **now}
    except WarrenError as error:
        problems.append(str(error))
    for problem in problems:
        log.error("%s", problem)
    write_atomically(state.problems, "".join(f"{one}\n" for one in problems))
    return known


if __name__ == "__main__":
    logs.configure("info", "text")
    follow(sys.argv[1])
