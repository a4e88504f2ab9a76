"""`warren cni`: what an init container or a person on the node calls."""

import json
from pathlib import Path

import pytest

from agent.cli import main

NETWORK = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}]}


def test_installed_and_taken_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf, plugins = tmp_path / "net.d", tmp_path / "bin"
    conf.mkdir()
    (conf / "10-net.conflist").write_text(json.dumps(NETWORK))
    folders = [f"--cni-conf-dir={conf}", f"--cni-bin-dir={plugins}"]
    install = ["cni", "install", *folders, "--run-dir=/run/warren", "--daemon-set=warren-system/warren-node"]
    assert main.run(install) == 0
    chosen = json.loads((conf / "10-net-warren.conflist").read_text())
    assert chosen["plugins"][-1]["socket"] == "/run/warren/cni.sock"
    assert chosen["plugins"][-1]["agent"] == "warren-system/warren-node"
    assert main.run(["cni", "uninstall", *folders]) == 0
    assert capsys.readouterr().out == f"removed {conf}/10-net-warren.conflist\nremoved {plugins}/warren-cni\n"
    assert [path.name for path in conf.iterdir()] == ["10-net.conflist"]
    assert main.run(["cni", "uninstall", *folders]) == 0, "again is harmless"


def test_bad_settings_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main.run(["cni", "install", f"--cni-conf-dir={tmp_path}/file", "--daemon-set=warren"]) == 2
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"warren cni install: --cni-conf-dir: Directory '{tmp_path}/file' is a file",
        "warren cni install: --daemon-set: 'warren' is not NAMESPACE/NAME, such as warren-system/warren-node",
        "warren cni install: --run-dir is missing: give it, or set WARREN_RUN_DIR",
    ]
