"""What a machine lacks is named at once, with its remedy."""

from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.lab import requirements
from agent.lab.state import NodeState, State


def test_all_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = State("x", True, "all", {"node9": "/nope", "node1": str(tmp_path)})
    wanted.nodes = [NodeState("node1", 1, "x")]
    with pytest.raises(SettingsError) as refusal:
        requirements.check(wanted)
    lines = str(refusal.value).splitlines()
    assert "the program dnsmasq is missing: `apt-get install dnsmasq-base`" in lines
    assert "there is no node node9 for /nope: nodes are node1" in lines
    assert f"{tmp_path} is not a program that can be run" in lines
    assert len([line for line in lines if "util-linux" in line]) == 3
