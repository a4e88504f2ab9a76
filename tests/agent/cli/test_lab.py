"""`warren lab`, as a user calls it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.lab import Lab, cgroups
from tests.support.leftovers import leftovers

NAME = f"wt-cli-{os.getpid()}"


def warren_lab(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command on a lab of our own, for the user's may be up."""
    argv = [sys.executable, "-m", "agent.cli.main", "lab", *arguments]
    env = {**os.environ, "WARREN_LAB": NAME}
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=60, env=env)


@pytest.fixture(autouse=True)
def no_lab_left() -> Iterator[None]:
    yield
    Lab.remove(NAME)


def test_a_round() -> None:
    up = warren_lab("up", "--nodes", "1")
    assert (up.returncode, up.stderr) == (0, "")
    assert up.stdout.splitlines()[-2:] == [
        "The lab is up: 1 nodes, 5 pods.",
        "`warren lab status` shows it, `warren lab down` takes it away.",
    ]
    shown = warren_lab("status").stdout
    assert "web-" in shown and "10.244.1.2" in shown and "80/TCP" in shown
    data = json.loads(warren_lab("status", "--json").stdout)
    assert set(data["nodes"][0]["processes"]) == {"dns", "ca", "agent", "tunnel"}
    assert data["nodes"][0]["processes"]["tunnel"][0]["resident_bytes"] > 0
    assert all(pod["enrolled"] == pod["captured"] for pod in data["pods"])
    assert [service["name"] for service in data["services"]] == ["outside", "web"]
    done = warren_lab("exec", "client", "--", "sh", "-c", "cat; hostname >&2; exit 7", given="given")
    assert (done.stdout, done.returncode) == ("given", 7)
    assert done.stderr.startswith("client-")
    assert warren_lab("check").stdout.endswith("all is well\n")
    assert json.loads(warren_lab("check", "node1", "--json").stdout)["problems"] == []
    explained = warren_lab("authz", "node1", "explain", "client", "web")  # as the demonstration proposes
    assert (explained.returncode, "port 8080: allowed" in explained.stdout) == (0, True)
    again = warren_lab("up")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "warren lab down" in again.stderr
    assert warren_lab("down").stdout == "The lab is gone.\n"
    assert leftovers(NAME) == []
    assert warren_lab("down").stdout == "There was no lab.\n"


def test_demonstration_and_again() -> None:
    assert warren_lab("up", "--plain").returncode == 0
    refused = warren_lab("demo")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "warren lab up --again" in refused.stderr
    assert warren_lab("up", "--again").returncode == 0
    shown = warren_lab("demo")
    assert shown.returncode == 0
    assert shown.stdout.count("holds ") == 7
    assert "FAILS" not in shown.stdout
    assert "What to try next:" in shown.stdout
    for pod in Lab.open(NAME).pods_of("deploy/outside"):
        cgroups.kill(pod.cgroup)
    shown = warren_lab("demo")
    assert shown.returncode == 1
    assert shown.stdout.count("holds ") == 5
    assert "FAILS a pod outside the mesh is reached plainly\n        request refused: " in shown.stdout
    assert "What to try next:" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up", "--manifests", "/nope"], "/nope: no such file or folder"),
        (["up", "--nodes", "6"], "--nodes: 6 is not in the range 1<=x<=5"),
        (["up", "--ztunnel", "/nope"], "/nope is not a program that can be run"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], says: str) -> None:
    done = warren_lab(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["demo"], ["exec", "x", "true"]])
def test_no_lab(command: list[str]) -> None:
    done = warren_lab(*command)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "`warren lab up`" in done.stderr
