"""`warren lab`, as a user calls it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lab import Lab, cgroups
from agent.lab.lab import DEFAULT_MANIFEST
from tests.support.leftovers import leftovers
from tests.support.wait import until

NAME = f"wt-cli-{os.getpid()}"


def warren_lab(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command on a lab of our own, for the user's may be up."""
    argv = [sys.executable, "-m", "agent.cli.main", "lab", *arguments]
    env = {**os.environ, "WARREN_LAB": NAME}
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=False, env=env)


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
    assert "\nall is well\n" in warren_lab("check").stdout
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


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {containers: [{name: a, ports: [{containerPort: 8080}]}]}
"""


PROBES = (
    "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, failureThreshold: 1},"
    "livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}, "
)


def ready(deployment: str) -> bool:
    statuses = [pod.body.get("status") for pod in Lab.open(NAME).pods_of(f"deploy/{deployment}")]
    return bool(statuses) and all(one and one["conditions"][0]["status"] == "True" for one in statuses)


def pods() -> dict[str, str]:
    """Their names, by the Deployment that they are of."""
    return {pod.name: pod.name.split("-")[0] for pod in Lab.open(NAME).pods}


def test_it_lives(tmp_path: Path) -> None:
    """A folder that is edited, and the commands that change a lab, each as a user would."""
    (tmp_path / "web.yaml").write_text(DEFAULT_MANIFEST.read_text())
    assert warren_lab("up", "--nodes", "1", "--manifests", str(tmp_path)).returncode == 0

    (tmp_path / "more.yaml").write_text(DEPLOYMENT.replace("NAME", "more"))
    until(lambda: [*pods().values()].count("more") == 1, what="what is saved is in the lab")
    (tmp_path / "bad.yaml").write_text("a: [")
    until(lambda: f"wrong: {tmp_path}/bad.yaml:" in warren_lab("status").stdout, what="a bad file is named")
    (Lab.open(NAME).cluster.folder / "worse.yaml").write_text("{")
    shown = warren_lab("status")
    assert (shown.returncode, "worse.yaml is not used" in shown.stdout) == (0, True)
    assert warren_lab("exec", "client", "--", "true").returncode == 0
    (tmp_path / "bad.yaml").unlink()
    (tmp_path / "more.yaml").unlink()
    until(lambda: "more" not in pods().values(), what="what is deleted there is gone")

    url = ("--", "curl", "-s", "-m", "5", "http://web/")
    for pod in ("client", "outside"):
        assert '"pod": "web-' in warren_lab("exec", f"deploy/{pod}", *url).stdout, f"{pod} reaches a Service"
    assert warren_lab("scale", "deploy/web", "0").returncode == 0
    assert warren_lab("exec", "deploy/outside", *url).returncode == 7, "refused, as kube-proxy does"
    scaled = warren_lab("scale", "deploy/web", "2")
    assert (scaled.stdout, scaled.stderr) == ("deploy/web has 2 pods, 2 of them new\n", "")
    before = {name for name, of in pods().items() if of == "web"}
    assert warren_lab("restart", "deploy/web").stdout == "deploy/web has 2 new pods\n"
    assert not before & pods().keys()

    probed = DEPLOYMENT.replace("NAME", "probed").replace("{name: a,", "{name: a, " + PROBES)
    (tmp_path / "probed.yaml").write_text(probed)
    until(lambda: "probed" in pods().values(), what="a pod with probes is there")
    until(lambda: ready("probed"), what="it answers, and so it is ready")
    for place in Lab.open(NAME).pods_of("deploy/probed"):
        cgroups.kill(place.cgroup)
    until(lambda: not ready("probed"), what="what does not answer is not ready")
    until(lambda: ready("probed"), what="its liveness probe has it restarted")
    assert "fails its liveness probe" in warren_lab("logs", "kubelet").stdout

    own = tmp_path.with_name("own.yaml")
    own.write_text(DEPLOYMENT.replace("NAME", "own"))
    assert warren_lab("apply", "-f", str(own)).stdout == "applied 1 objects, 1 new pods\n"
    assert warren_lab("apply", str(own)).stdout == "applied 1 objects, 0 new pods\n"
    assert warren_lab("delete", "deploy/own").stdout == "deleted Deployment default/own\n"
    gone = warren_lab("delete", "deploy/own")
    assert (gone.returncode, "not there: Deployment default/own" in gone.stderr) == (1, True)

    assert warren_lab("stop", "tunnel").returncode == 0
    assert warren_lab("check").stdout.startswith("wrong: tunnel: no answer")
    assert warren_lab("start", "tunnel").returncode == 0
    assert "istio_build" in warren_lab("metrics", "tunnel").stdout
    assert "process_resident_memory_bytes" in warren_lab("metrics", "agent").stdout
    assert "serving pod default/client-" in warren_lab("logs", "tunnel").stdout
    assert warren_lab("logs", "ca", "node1").returncode == 0
    assert warren_lab("down").returncode == 0
    assert leftovers(NAME) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scale", "web", "1"], "'web' is not KIND/NAME, such as deploy/web"),
        (["apply"], "apply what? name files or folders"),
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
