"""Commands on other nodes: which node, which pod, and what is said there."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.remote import selector
from tests.support.execserver import Command, ExecServer, pod

AGENT = {"app.kubernetes.io/name": "warren-node"}


def echo(pod: str, words: list[str]) -> Command:
    return ["echo", pod, *words], None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ExecServer]:
    pods = [pod(f"warren-node-{node}", "warren-system", node, **AGENT) for node in ("a", "b")]
    server = ExecServer(tmp_path, [*pods, pod("web-5f-x", "shop", "b", app="web")], echo)
    spec = {"selector": {"matchLabels": {"app": "web"}}}
    server.objects["/apis/apps/v1/namespaces/shop/deployments/web"] = {"spec": spec}
    yield server
    server.close()


def warren(server: ExecServer, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "agent.cli.main", "--kubeconfig", str(server.kubeconfig), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_command_goes_to_the_agent_of_its_node(server: ExecServer) -> None:
    done = warren(server, "--node", "b", "pods", "-o", "json")
    assert (done.returncode, done.stdout) == (0, "warren-node-b warren pods -o json\n"), done


def test_a_workload_names_the_node_and_a_service_its_namespace(server: ExecServer) -> None:
    done = warren(server, "-n", "shop", "why", "deploy/web", "svc/cart:80", "--try")
    assert done.stdout == "warren-node-b warren why shop/web-5f-x cart.shop:80 --try\n", done


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--node", "c", "pods"], "no agent runs on node c in namespace warren-system: they run on a, b"),
        (["-n", "shop", "pods"], "which node? name it with --node"),
        (["-n", "shop", "why", "deploy/nobody", "x"], "deployments/nobody not found"),
        (["--node", "a", "lab", "up"], "lab is run where it is needed"),
        (["--node", "a", "--system-namespace", "elsewhere", "pods"], "none runs there"),
    ],
)
def test_what_cannot_be_done_is_said(server: ExecServer, words: list[str], text: str) -> None:
    done = warren(server, *words)
    assert done.returncode and text in done.stderr and "Traceback" not in done.stderr, done


def test_selectors() -> None:
    expressions = [
        {"key": "a", "operator": "In", "values": ["1", "2"]},
        {"key": "b", "operator": "DoesNotExist"},
    ]
    assert selector({"matchLabels": {"app": "x"}, "matchExpressions": expressions}) == "app=x,a in (1,2),!b"
