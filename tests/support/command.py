"""`warren` as somebody on call runs it on a node of a lab."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.lab import Lab
from tests.support.wait import until

WIDTH = 80


@dataclass
class Said:
    """What a command wrote, and the seconds that it took. text: its lines joined."""

    code: int
    out: str
    err: str
    took: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(self.out.split())


class Here:
    """`warren` on a node of the lab."""

    def __init__(self, lab: Lab, node: str) -> None:
        self.lab = lab
        self.node = lab.node(node)

    def __call__(self, *arguments: str, check: int | None = None) -> Said:
        argv, environment = self._command(arguments)
        began = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
        assert check in (None, done.returncode), (arguments, done)
        assert "PRIVATE KEY" not in done.stdout and "Traceback" not in done.stderr
        return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    @contextmanager
    def follow(self, said: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """While it runs it writes to a file."""
        argv, environment = self._command(arguments)
        with (
            said.open("wb") as out,
            subprocess.Popen(argv, stdout=out, stderr=out, env=environment) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()

    def _command(self, arguments: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
        argv = self.node.command([sys.executable, "-P", "-m", "agent.cli.main", *arguments])
        return argv, {**os.environ, "WARREN_RUN_DIR": str(self.node.run_dir), "COLUMNS": str(WIDTH)}

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json").out)

    def says(self, code: int, words: str, *arguments: str, within: float = 30.0) -> Said:
        """Waits until it does, in so many seconds."""
        seen = [Said(-1, "", "")]

        def said() -> bool:
            one = seen[0] = self(*arguments)
            return one.code == code and words in one.text + one.err and one.took < within

        try:
            until(said, timeout=30, what=words)
        except AssertionError as error:
            raise AssertionError(f"{arguments}: not {code}, {words!r}: {seen[0]}") from error
        return seen[0]
