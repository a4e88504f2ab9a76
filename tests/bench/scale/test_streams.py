"""The measurement of discovery, on a small cluster."""

import subprocess
import sys


def test_agents_hear_of_what_they_ask_for_alone() -> None:
    small = ["--pods", "1000", "--agents", "2", "--rate", "500", "--seconds", "1", "--no-node"]
    command = [sys.executable, "-m", "bench.scale.streams", *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    names, _, line = [[one.strip() for one in row.split("|")[1:-1]] for row in done.stdout.splitlines()]
    figures = {name: float(value.replace(",", "")) for name, value in zip(names, line, strict=True)}
    assert (figures["pods"], figures["agents"]) == (1000, 2)
    assert figures["changes"] > 100
    assert 0 < figures["told"] < figures["changes"]
