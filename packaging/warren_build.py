"""The build backend (PEP 517): maturin's, after the parts that maturin does not build.

A wheel holds more than Python and the Rust core: the kernel programs (clang, libbpf, bpftool), the CNI plugin
(a second Rust program), the protobuf messages, and the licences of the crates that are linked in. Without one
of them a wheel would install and then fail on a node, so a missing tool ends the build.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

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
# What is called, and Debian's package that has it.
TOOLS = {"bpftool": "bpftool", "cargo": "cargo", "cc": "build-essential", "clang": "clang", "make": "make"}
HEADERS = Path("/usr/include/bpf/bpf_helpers.h")


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """The wheel's file name. Ends the process with a message where a part cannot be built."""
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
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"  # Debian has bpftool there
    missing = [package for program, package in TOOLS.items() if not shutil.which(program, path=path)]
    missing += [] if HEADERS.exists() else ["libbpf-dev"]
    if missing:
        raise SystemExit(f"warren cannot be built: apt-get install {' '.join(missing)}")
    _run("make", "-C", "bpf")
    _run("make", "-C", "protocols", f"PYTHON={sys.executable}")
    _run("make", "-o", "packages", "cni/warren-cni")
    LICENCES.write_text("\n".join(_licences()), encoding="utf-8")


def _run(*command: str) -> None:
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit(f"warren cannot be built: `{' '.join(command)}` failed, see above")


def _licences() -> Iterator[str]:
    """The notices that crates ask to be passed on with what they are linked into, each text once."""
    crates = sorted({crate["id"]: crate for crate in _crates()}.values(), key=lambda one: str(one["name"]))
    texts: dict[str, list[str]] = defaultdict(list)
    yield "The Rust crates that the tunnel's core and the CNI plugin are linked with.\n"
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        yield f"{name}: {crate['license'] or 'see its licence below'}"
        for file in sorted(Path(crate["manifest_path"]).parent.glob("LICEN[SC]E*")):
            if file.is_file():
                texts[file.read_text(encoding="utf-8", errors="replace").strip()].append(name)
    for text, names in texts.items():
        yield f"\n{'=' * 100}\n{', '.join(names)}\n\n{text}"


def _crates() -> Iterator[dict[str, Any]]:
    """What is linked, of any depth, and is not ours; not what only the build calls."""
    for crate in CRATES:
        manifest = f"--manifest-path={crate}/Cargo.toml"
        command = ["cargo", "metadata", "--format-version=1", "--locked", manifest]
        told = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        packages = {package["id"]: package for package in told["packages"]}
        nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
        found, ahead = set(), [told["resolve"]["root"]]
        while ahead:
            for dependency in nodes[ahead.pop()]["deps"]:
                linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
                if linked and dependency["pkg"] not in found:
                    found.add(dependency["pkg"])
                    ahead.append(dependency["pkg"])
        yield from (packages[name] for name in found)
