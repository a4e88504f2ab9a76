"""The whole benchmark, on a small cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_small_cluster_from_nothing_to_a_table(tmp_path: Path) -> None:
    small = ["--services", "10", "--pods", "40", "--nodes", "4", "--rate", "10"]
    short = ["--seconds", "2", "--rounds", "2"]
    command = [sys.executable, "-m", "bench.scale", "--out", str(tmp_path), *small, *short]
    before = namespaces()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rounds = json.loads((tmp_path / "results.json").read_text())["rounds"]
    assert len(rounds) == 2
    for figures in rounds:
        assert figures["unacknowledged"] == 0
        assert figures["agent_mb"] > 10
        assert figures["on_demand_mb"] > 10
    assert "| **missed** |" in done.stderr or "| reached |" in done.stderr
    assert namespaces() <= before


def namespaces() -> set[Path]:
    return set(Path("/run/netns").glob("wt-scale-*"))


def test_what_it_cannot_do_it_says_in_a_line(tmp_path: Path) -> None:
    wrong = tmp_path / "kubeconfig"
    wrong.write_text("clusters: []\n")
    command = [sys.executable, "-m", "bench.scale", "--out", str(tmp_path), "--kubeconfig", str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bench: ")
    assert "Traceback" not in done.stderr
