"""`warren agent`: its settings, all bad ones at once, before anything is loaded."""

from pathlib import Path

import pytest

from agent.cli import main


def test_all_bad_settings_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {
        "--source": f"dir:{tmp_path}/absent",
        "--run-dir": str(tmp_path),
        "--cgroup": f"{tmp_path}/absent",
        "--bpffs": str(tmp_path),
        "--xds-address": "here",
        "--metrics-port": "99999",
        "--outbound-traffic-policy": "NONE",
    }
    assert main.run(["agent", *(word for pair in arguments.items() for word in pair)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 6
    assert all(line.startswith("warren agent: --") for line in err)
    assert f"warren agent: --source: {tmp_path}/absent is not a folder: make it first" in err
    told = "'NONE' is not one of 'ALLOW_ANY', 'REGISTRY_ONLY'"
    assert any(told in line for line in err)
    assert "warren agent: --node is missing: give it, or set WARREN_NODE" in err


def test_a_source_of_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["agent", "--source", "etcd"]) == 2
    told = "'etcd' is not kube (an API server) or dir:PATH (a folder of manifests)"
    assert f"warren agent: --source: {told}" in capsys.readouterr().err


def test_no_kubeconfig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config"
    config.write_text("kind: Config")
    arguments = ["--source", "kube", "--kubeconfig", str(config), "--node", "n", "--run-dir", str(tmp_path)]
    assert main.run(["agent", *arguments, "--cgroup", str(tmp_path), "--bpffs", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warren: --kubeconfig {config}: Invalid kube-config file. ")


def test_no_cgroup_v2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", f"dir:{tmp_path}", "--node", "n", "--run-dir", str(tmp_path / "run")]
    assert main.run(["agent", *arguments, "--cgroup", str(tmp_path), "--bpffs", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"warren: {tmp_path} is no cgroup v2 directory: make one where cgroup2 is mounted\n"
    )
