"""The build backend (PEP 517): maturin's, after what maturin does not know how to build.

A wheel holds more than Python and the Rust core: the kernel's programs (clang, libbpf, bpftool), the CNI plugin (a
second Rust program), the protobuf messages and the licences of the crates that are linked in. A wheel without one of
them would install and then fail on a node, so a missing tool ends the build.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maturin
from maturin import (  # what pip asks of a backend and we leave to maturin as it is
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)
from maturin import build_sdist as build_sdist

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).parents[1]
LICENCES = ROOT / "tunnel" / "LICENSES.third-party"
CRATES = ("tunnel", "cni")
# By program, since distributions name the packages differently; beside each, Debian's.
TOOLS = {"make": "make", "clang": "clang", "bpftool": "bpftool", "cargo": "cargo", "cc": "gcc libc6-dev"}


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """The wheel's file name. Ends the process with a message where a tool is missing or a part does not build."""
    _build_parts()
    os.environ.setdefault("MATURIN_PEP517_ARGS", "--strip --locked")
    name: str = maturin.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """As `build_wheel`, for `pip install --editable`."""
    _build_parts()
    name: str = maturin.build_editable(wheel_directory, config_settings, metadata_directory)
    return name


def _build_parts() -> None:
    missing = sorted(package for program, package in TOOLS.items() if not _has(program))
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        missing.append("libbpf-dev")
    if missing:
        raise SystemExit(f"warren cannot be built here: apt-get install {' '.join(missing)}")
    _run("make", "-C", "bpf")
    _run("make", "-C", "protocols", f"PYTHON={sys.executable}")
    _run("make", "-o", "packages", "cni/warren-cni")
    LICENCES.write_text("\n".join(_licences()), encoding="utf-8")


def _has(program: str) -> bool:
    return bool(shutil.which(program) or shutil.which(program, path="/usr/sbin"))


def _run(*command: str) -> None:
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit(f"warren cannot be built: `{' '.join(command)}` failed, see above")


def _licences() -> Iterator[str]:
    """The notices that crates ask to be passed on with what they are linked into."""
    yield "Rust crates that are linked into the tunnel's core or into the CNI plugin, with their licences.\n"
    for crate in sorted({crate["id"]: crate for crate in _crates()}.values(), key=lambda one: one["name"]):
        yield f"{'=' * 100}\n{crate['name']} {crate['version']}: {crate['license'] or 'see below'}\n"
        texts = sorted(Path(crate["manifest_path"]).parent.glob("*[Ll][Ii][Cc][Ee][Nn][SsCc][Ee]*"))
        yield from (text.read_text(encoding="utf-8", errors="replace") for text in texts if text.is_file())


def _crates() -> Iterator[dict[str, Any]]:
    """What is linked, and not only called while building: the dependencies that are not ours, of any depth."""
    for crate in CRATES:
        command = ["cargo", "metadata", "--format-version=1", "--locked", f"--manifest-path={crate}/Cargo.toml"]
        told = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        packages = {package["id"]: package for package in told["packages"]}
        nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
        found, open_ = set(), [told["resolve"]["root"]]
        while open_:
            for dependency in nodes[open_.pop()]["deps"]:
                linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
                if linked and dependency["pkg"] not in found:
                    found.add(dependency["pkg"])
                    open_.append(dependency["pkg"])
        yield from (packages[name] for name in found if packages[name]["source"])
