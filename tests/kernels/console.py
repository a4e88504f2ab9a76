"""What an emulated machine says: shown as it comes, and kept in a file; one that is silent is ended."""

import re
import selectors
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|c)")
_KERNEL = re.compile(r"\[ *\d+\.\d+\]")  # begins each of its messages
_EXIT = re.compile(r"exit code (\d+)$")
_COUNTS = re.compile(r"=+ (\d+ (?:passed|failed|error).*?) =+$")


class Outcome(NamedTuple):
    """problem: why it is no success, in words; counts: pytest's own last line, of which tests there were."""

    problem: str
    counts: str


def follow(command: Sequence[str], log: Path, silence: float) -> Outcome:
    """Run a machine until it ends by itself, or says nothing more of its tests for `silence` seconds.

    `log` has all that it says; the kernel's messages are there only.
    """
    with (
        log.open("wb") as kept,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        ) as machine,
    ):
        assert machine.stdout
        try:
            return _Following(silence).all_of(machine.stdout, kept)
        finally:
            machine.kill()


class _Following:
    def __init__(self, silence: float) -> None:
        self._silence, self._began = silence, time.monotonic()
        self._heard = self._began
        self._line = b""
        self._last, self._code, self._counts = "its boot", "", ""

    def all_of(self, console: IO[bytes], kept: IO[bytes]) -> Outcome:
        with selectors.DefaultSelector() as ready:  # select() knows no descriptor above 1,023
            ready.register(console, selectors.EVENT_READ)
            while ready.select(max(0.0, self._heard + self._silence - time.monotonic())):
                if not (said := console.read(1 << 16)):
                    return Outcome(self._problem(), self._counts)
                kept.write(said)
                kept.flush()
                *lines, self._line = (self._line + said).split(b"\n")
                for line in lines:
                    self._hear(_plain(line), whole=True)
                if self._line:
                    self._hear(_plain(self._line), whole=False)
        return Outcome(f"silent for {self._silence:.0f} s: {self._last}", self._counts)

    def _problem(self) -> str:
        if not self._code:
            return f"it ended without a word: {self._last}"
        return "" if self._code == "0" else f"exit code {self._code}"

    def _hear(self, line: str, *, whole: bool) -> None:
        testing = self._last.startswith("tests/")
        of_kernel = _KERNEL.match(line) is not None
        if not (of_kernel and testing):  # of a test that hangs a kernel may complain again and again
            self._heard = time.monotonic()
        if line.startswith("tests/"):
            self._last = line
        if not whole or of_kernel or not line.strip():
            return
        print(f"{time.monotonic() - self._began:7.1f} {line}", flush=True)
        if found := _EXIT.match(line):
            self._code = found[1]
        if found := _COUNTS.match(line):
            self._counts = found[1]


def _plain(line: bytes) -> str:
    return _ESCAPE.sub("", line.decode(errors="replace").rstrip("\r").rpartition("\r")[2])
