"""Another checkout of Warren, built where it lies: its own programs, agents and tunnels run its lab."""

import os
import subprocess
from pathlib import Path

from agent.lab import Lab
from bench.errors import BenchError

UP_TIMEOUT = 120.0  # seconds; a lab of two nodes takes 10
_UP = """
import sys, pathlib
from agent.errors import WarrenError
from agent.lab import Lab
try:
    Lab.up([pathlib.Path(sys.argv[2])], name=sys.argv[1], access_log="off")
except WarrenError as error:
    sys.exit(str(error))
"""


def built(checkout: Path) -> Path:
    """`checkout` made absolute; raises BenchError when it is none, or not built."""
    checkout = checkout.resolve()
    for part, name in ((".venv/bin/python", "environment"), ("tunnel/_core*.so", "Rust core")):
        if not list(checkout.glob(part)):
            raise BenchError(f"{checkout}: no {part}, its {name}: `make setup` in that checkout builds it")
    return checkout


def lab_up(checkout: Path, name: str, manifest: Path) -> Lab:
    """Bring up a lab with a checkout's own programs; ours only look at it and take it away.

    Raises BenchError with the other's reason.
    """
    argv = [str(checkout / ".venv/bin/python"), "-P", "-c", _UP, name, str(manifest)]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=env,
            timeout=UP_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"the lab of {checkout} is not up after {UP_TIMEOUT:.0f} s") from None
    if done.returncode:
        raise BenchError(f"the lab of {checkout}: {(done.stderr or done.stdout).strip()[-600:]}")
    return Lab.open(name)
