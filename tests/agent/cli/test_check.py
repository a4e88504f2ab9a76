"""`warren check` beside a real node: what it says, and when it says that something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.cli.check import grouped, shortened
from agent.node.datapath import Datapath
from bpf.pins import Pins
from tests.support.netns import Pod
from tests.support.stage import Stage

NOBODY = ("--agent", "http://127.0.0.1:1", "--tunnel", "http://127.0.0.1:1")


def of_kernel(text: str) -> list[str]:
    """The problems of a report in JSON, but for those of the agent and the tunnel, which are not there."""
    problems: list[str] = json.loads(text)["problems"]
    assert [line.partition(":")[0] for line in problems[:2]] == ["agent", "tunnel"]
    return problems[2:]


@pytest.fixture
def run(stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")  # whatever the terminal's are

    def run(*arguments: str) -> tuple[int, str]:
        places = ("--cgroup", str(stage.node.cgroup), "--bpffs", str(stage.bpffs / "warren"), *NOBODY)
        code = main.run(["check", *places, *arguments])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def pod(stage: Stage) -> Iterator[Pod]:
    pod = stage.pod()
    yield pod
    stage.datapath.forget(stage.datapath.prepare(pod.netns, []))


def test_all_is_well(stage: Stage, run: Any, pod: Pod) -> None:
    cookie = stage.enrol(pod)
    tunnel = stage.tunnel(pod)
    code, text = run("--json")
    said = json.loads(text)
    tunnel.close()
    assert (code, of_kernel(text)) == (1, [])
    assert said["programs"]["connect4"] is True
    assert all(feature["present"] for feature in said["features"])
    shown = said["pods"][str(cookie)]
    assert shown["addresses"] == [str(pod.v4), str(pod.v6)]
    assert (shown["captured"], shown["listening"], shown["routing"]) == (True, True, True)
    assert shown["wanted"] is None
    assert said["verdicts"]["listener_registered"] == 1


def test_tables_name_everything_if_that_is_asked_for(stage: Stage, run: Any, pod: Pod) -> None:
    stage.enrol(pod)
    tunnel = stage.tunnel(pod)
    short, long = run()[1], run("-v")[1]
    tunnel.close()
    for word in ("connect4", str(pod.v4), "listener registered", "SO_NETNS_COOKIE"):
        assert word in long and word not in short
    assert "programs attached, 1 pods captured" in short
    assert max(map(len, short.splitlines())) <= 80, "however wide the terminal is"
    assert short.startswith("wrong: agent: no answer at http://127.0.0.1:1 (Connection refused)")


def test_what_many_pods_have_in_common_is_said_once() -> None:
    problems = [f"pod default/p{number}: no tunnel: start it" for number in range(5)]
    assert [*grouped(["agent: dead", *problems])] == [
        "agent: dead",
        "pods default/p0, default/p1, default/p2 and 2 more: no tunnel: start it",
    ]


def test_of_many_problems_of_one_kind_some_are_shown() -> None:
    refused = [f"refused: object {number}" for number in range(5000)]
    assert [*shortened(["CA: dead", *refused, "versions differ (1, 2)"])] == [
        "CA: dead",
        *refused[:5],
        "refused: 4995 more, which -v shows",
        "versions differ (1, 2)",
    ]


def test_pod_that_is_only_prepared_is_wrong(stage: Stage, run: Any, pod: Pod) -> None:
    cookie = stage.prepare(pod)
    code, text = run("--json")
    assert code == 1
    said = of_kernel(text)
    assert [line.partition(":")[0] for line in said] == [f"pod with netns cookie {cookie}"] * 2
    assert "what leaves it is not captured" in said[0]
    assert "what arrives for it is not captured" in said[1]


def test_pod_without_a_tunnel_is_wrong(stage: Stage, run: Any, pod: Pod) -> None:
    cookie = stage.enrol(pod)
    code, text = run()
    assert code == 1
    assert (
        f"wrong: pod with netns cookie {cookie}: no tunnel listens on port 15001, 15006, 15008 in it, "
        "its connections are refused: start the tunnel" in " ".join(text.split())
    )


def test_program_that_is_not_attached_is_wrong(stage: Stage, run: Any) -> None:
    (Pins(stage.bpffs / "warren").directory / "links" / "connect6").unlink()
    code, text = run("--json")
    stage.restart()
    assert code == 1
    said = json.loads(text)
    assert said["programs"]["connect6"] is False
    assert of_kernel(text) == [
        f"program connect6 is attached to no cgroup, not to {stage.node.cgroup}: restart the agent"
    ]
    assert of_kernel(run("--json")[1]) == []


def test_nothing_there_is_wrong(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cgroup = str(stage.node.cgroup)
    for places, problem in (
        (
            ["--cgroup", cgroup, "--bpffs", str(tmp_path)],
            f"{tmp_path} is not in a bpffs: name the agent's --bpffs",
        ),
        (["--cgroup", str(tmp_path), "--bpffs", str(stage.bpffs)], f"{tmp_path} is no cgroup v2 directory"),
        (["--cgroup", cgroup, "--bpffs", str(stage.bpffs / "none")], "no map pods; start the agent"),
    ):
        assert main.run(["check", *places, *NOBODY, "--json"]) == 1
        assert problem in "\n".join(json.loads(capsys.readouterr().out)["problems"])


def test_check_does_not_disturb_the_agent(stage: Stage, run: Any) -> None:
    """It takes no lock and writes nothing."""
    before = stage.datapath.pods(), stage.datapath.verdicts()
    run()
    assert (stage.datapath.pods(), stage.datapath.verdicts()) == before
    assert isinstance(stage.datapath, Datapath)
