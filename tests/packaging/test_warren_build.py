"""A wheel holds what a node needs, or there is none."""

import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import warren_build; warren_build.build_wheel('/nowhere')"
# What git ignores below the wheel's packages is built. Not in the wheel, or maturin's own: these.
BUILT = re.compile(r"^/((?:agent|bpf|cni|protocols|tunnel)/.*[^/\n])$", re.M)
OTHERS = {"tunnel/_core*.so", "tunnel/fuzz/Cargo.lock", "cni/fuzz/Cargo.lock"}


def build(path: str) -> tuple[int, str]:
    """Exit code of the build with these programs, and the last line that it says."""
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "packaging")}
    done = subprocess.run(
        [sys.executable, "-c", BUILD], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr.splitlines()[-1]


def test_what_is_missing_is_named_before_anything_is_built() -> None:
    code, said = build("/nowhere")
    assert code == 1
    assert said.startswith("warren cannot be built: apt-get install ")
    assert {"build-essential", "cargo", "clang", "make"} <= {*said.split()}


@pytest.mark.parametrize("part", ["-C bpf", "-C protocols", "-o packages cni/warren-cni"])
def test_without_one_of_its_parts_there_is_no_wheel(part: str, tmp_path: Path) -> None:
    """`make` cannot build this part, and need not build the others; nothing is compiled here."""
    for program, script in (("make", f'case "$*" in "{part}"*) exit 2 ;; esac'), ("cargo", "exit 2")):
        (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / program).chmod(0o755)
    code, said = build(f"{tmp_path}:{os.environ['PATH']}")
    assert code == 1
    assert said.startswith(f"warren cannot be built: `make {part}")


def test_all_that_is_built_is_in_the_wheel() -> None:
    """Maturin leaves out what git ignores, unless it is listed."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        include = tomllib.load(file)["tool"]["maturin"]["include"]
    listed = [one["path"] for one in include if one["format"] == "wheel"]
    built = {*BUILT.findall((ROOT / ".gitignore").read_text())} - OTHERS
    assert len(built) > 3
    assert [path for path in sorted(built) if not any(fnmatch(path, one) for one in listed)] == []
