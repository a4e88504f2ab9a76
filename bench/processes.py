"""Processes that run in the background of a benchmark."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.pods import Pod, inside

STOP_TIMEOUT = 3.0  # seconds between SIGTERM and SIGKILL


class Processes:
    """Starts programs in pods, and ends them; should this process die, they do so by themselves."""

    def __init__(self, load: Path, logs: Path) -> None:
        """`load` is the load generator's binary, `logs` the directory for one log file a process."""
        self.load = load
        self.logs = logs
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}

    def start(self, name: str, pod: Pod, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Start `argv` in `pod` and return its pid; output goes to the log `name`."""
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                inside(self.load, pod, argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._running[process.pid] = (name, process)
        return process.pid

    def check(self) -> None:
        """Raise BenchError, with the end of its log, when a process has ended by itself."""
        for name, process in self._running.values():
            if (code := process.poll()) is not None:
                raise BenchError(f"{name} ended with status {code}: {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of a process' log in one line."""
        text = (self.logs / f"{name}.log").read_text(errors="replace").strip()
        return " | ".join(text.splitlines()[-3:])[-400:] or "(no output)"

    def stop(self, pid: int) -> None:
        """End one process and wait for it."""
        _, process = self._running.pop(pid)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End every process."""
        for _, process in self._running.values():
            process.terminate()
        for pid in list(self._running):
            self.stop(pid)
