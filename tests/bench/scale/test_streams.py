"""The measurement of discovery, on a small cluster."""

import subprocess
import sys


def test_streams_and_a_real_node_beside_them() -> None:
    small = ["--pods", "1000", "--agents", "2", "--rate", "500", "--seconds", "1"]
    command = [sys.executable, "-m", "bench.scale.streams", *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    names, _, line = [[one.strip() for one in row.split("|")[1:-1]] for row in done.stdout.splitlines()]
    figures = {name: float(value.replace(",", "")) for name, value in zip(names, line, strict=True)}
    assert (figures["pods"], figures["agents"]) == (1000, 2)
    assert figures["changes"] > 100
    assert 0 < figures["told"] < figures["changes"], "agents hear of what they ask for alone"
    assert 50 < figures["node_mb"] < 300
