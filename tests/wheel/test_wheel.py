"""A root with the wheel and without what else a node has: everything works, or says what to install.

What the root lacks is installed on the way down: tests are in that order.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Said
from tests.wheel import inside
from tests.wheel.root import REPOSITORY, VENV, Root, build_wheel, empty_root

_LOAD = """
from pathlib import Path
from agent.node.datapath import Datapath
from bpf.programs import COOKIE, Object
Object(COOKIE).load()  # which this kernel may not need
group, bpffs = Path("/sys/fs/cgroup/load"), Path("/sys/fs/bpf/load")
group.mkdir(exist_ok=True)
datapath = Datapath.open(group, bpffs)
print(len(datapath.pods()), "pods", *sorted(path.name for path in bpffs.iterdir()))
datapath.close()
Datapath.remove(bpffs)
print(*bpffs.iterdir(), "left")
"""
_IMPORT = """
import importlib, pkgutil
for name in ("agent", "bpf", "cni", "protocols", "tunnel"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """With the wheel in it."""
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    with empty_root() as made:
        made.install(wheel)
        yield made


@pytest.fixture(scope="module")
def node(root: Root) -> Root:
    """With what `warren check` asks for as well."""
    for command in (("update",), ("install", "--yes", "--no-install-recommends", "libbpf1")):
        said = root.run("apt-get", "-qq", *command, network=True)
        assert said.code == 0, said
    return root


def warren(root: Root, *arguments: str) -> Said:
    said = root.run("warren", *arguments)
    assert "Traceback" not in said.out + said.err, said
    assert "internal error" not in said.err, said
    return said


@pytest.mark.parametrize(
    "arguments",
    ["--version", "--help", "agent --help", "tunnel --help", "lab --help", "check --list", "crds",
     "completion bash"],
)  # fmt: skip
def test_a_new_user_is_answered(root: Root, arguments: str) -> None:
    said = warren(root, *arguments.split())
    assert (said.code, said.err) == (0, ""), said
    assert said.out


def test_nothing_of_this_machine_is_seen_there(root: Root) -> None:
    said = root.run("sh", "-c", f"ls -d {REPOSITORY} /usr/include/stdio.h; command -v cc ip bpftool")
    assert said.out == ""
    assert root.run("sh", "-c", f"exec {VENV}/bin/python -c 'import bcc'").code == 1


def test_every_module_finds_what_it_imports(root: Root) -> None:
    said = root.run(f"{VENV}/bin/python", "-c", _IMPORT)
    assert (said.code, said.err) == (0, ""), said


def test_a_library_that_is_missing_is_named_with_its_remedy(root: Root) -> None:
    said = warren(root, "check")
    assert said.code == 1, said
    assert "libbpf.so.1 is missing (apt-get install libbpf1)" in said.text, said


def test_an_agent_without_it_ends_with_the_remedy(root: Root) -> None:
    ran = life(root)
    assert ran["code"] == 1
    assert ran["said"] == [
        "warren: libbpf.so.1 is missing (apt-get install libbpf1), needed for loading the programs\n"
    ]


def test_a_lab_names_all_that_it_lacks(root: Root) -> None:
    said = warren(root, "lab", "up")
    assert (said.code, said.out) == (2, ""), said
    for package in ("dnsmasq-base", "nftables", "libbpf1"):
        assert f"`apt-get install {package}`" in said.err
    assert len(said.err.splitlines()) == 3, said


def test_the_cni_plugin_runs_there(root: Root) -> None:
    places = "--cni-conf-dir /tmp/conf --cni-bin-dir /tmp/bin --run-dir /run/warren"
    assert warren(root, "cni", "install", *places.split()).code == 0
    said = root.run("env", "CNI_COMMAND=VERSION", "/tmp/bin/warren-cni")
    assert (said.code, said.err) == (0, ""), said
    assert "1.0.0" in json.loads(said.out)["supportedVersions"]


def test_the_verifier_takes_the_programs(node: Root) -> None:
    said = node.run(f"{VENV}/bin/python", "-c", _LOAD)
    assert (said.code, said.err) == (0, ""), said
    pods, *pinned, left = said.out.split()
    assert (pods, left) == ("0", "left")
    assert {"maps", "pods"} <= {*pinned}


def test_an_agent_lives_and_ends_there(node: Root) -> None:
    ran = life(node)
    assert ran["code"] == 0, ran
    assert "ready: 0 pods captured on node node1" in "".join(ran["said"])
    assert ran["pinned"]
    check = json.loads(ran["check"])
    wrong = [line for line in check["problems"] if not line.startswith("tunnel: no answer")]
    assert (wrong, ran["complaints"]) == ([], "")
    assert check["programs"] and all(check["programs"].values())


def life(root: Root) -> Any:
    """Of an agent in the root, as `inside` tells it."""
    said = root.run(f"{VENV}/bin/python", "-c", Path(inside.__file__).read_text())
    assert (said.code, said.err) == (0, ""), said
    assert "Traceback" not in said.out
    return json.loads(said.out)
