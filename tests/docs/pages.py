"""`docs/cli.md`: each command for whoever is on call, with what it says on a lab. `make docs` writes it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from click import Context

from agent.cli.main import warren
from agent.lab import Lab
from agent.lab.members import Pod
from agent.model.schema.objects import Key
from tests.support.wait import until

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
WIDTH = 100
HEAD = """<!-- Written by `make docs` from a lab: edit tests/docs/pages.py. -->
# The command line for whoever is on call

Every command prints for people, and with `-o json` or `-o yaml` for programs. Exit codes: 0 all is well (or
the connection is allowed), 1 something is wrong (or it is refused), 2 there is no answer, or only a part of
one: what could not be asked is named on standard error. `warren COMMAND --help` has all options, and
`source <(warren completion bash)` completes them. Root may ask everything; who is in the group of the
agent's `--admin-group` may read.

What follows was printed on a lab of two nodes (`warren lab up`), on its first node
(`warren lab on node1 COMMAND...`); where something is refused, an AuthorizationPolicy denies all access to
`web`.
"""
# Under each command: what is run, and whether the policy is in force.
SHOWN: dict[str, list[tuple[str, bool]]] = {
    "status": [("status", False)],
    "check": [("check", False)],
    "why": [
        ("why client web", False),
        ("why client web", True),
        ("why client web:80 --path / -H 'user-agent: me' --try", False),
        ("why client web --try", True),
        ("why outside web", False),
        ("why client example.com:443", False),
    ],
    "authz": [("authz explain client web", True)],
    "routes": [("routes explain GET http://web/ --from client", False)],
    "pods": [("pods", False)],
    "workloads": [("workloads", False)],
    "services": [("services", False)],
    "policies": [("policies", True)],
    "certs": [("certs", False), ("certs sa/client", False)],
    "connections": [("connections", False)],
    "flows": [("flows --last 4", True), ("flows --verdict refused --last 2", True)],
    "top": [("top --by workload --once", False)],
    "cost": [("cost --for 2", False)],
    "trace": [("trace client --for 1", False)],
    "capture": [("capture client --for 1 -w client.pcapng", False)],
    "dashboard": [("dashboard", False)],
    "analyze": [("analyze {manifests}", False), ("analyze --live", False)],
    "config": [("config dump", False), ("config diff", False)],
    "log": [("log level", False), ("log level debug --part tunnel", False), ("log level info", False)],
    "bug-report": [("bug-report --file {report}", False)],
    "completion": [("completion bash", False)],
}
# What runs, or is run once where it is needed: by their options.
BY_OPTIONS = [
    "agent",
    "tunnel",
    "ca",
    "cni",
    "discovery",
    "reporter",
    "gateway",
    "gateway-agent",
    "crds",
    "lab",
]
SHOWN |= {name: [(f"{name} --help", False)] for name in BY_OPTIONS}
DENIED = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "nobody", "namespace": "default"},
    "spec": {"action": "DENY", "selector": {"matchLabels": {"app": "web"}}, "rules": [{}]},
}
WRONG = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}
"""
_TOKEN = re.compile(r"/[\w-]{43}/")  # of the map's link
_VARIABLE = re.compile(r"-[a-z0-9]{9,10}-[a-z0-9]{5}\b|[0-9a-f]{16,}|\d+[.:\d]*[A-Za-z]?|\s+")


def write(lab: Lab, folder: Path) -> str:
    """The page."""
    return HEAD + "".join(_section(lab, name, folder) for name in SHOWN)


def shown(page: str) -> Iterator[tuple[str, str]]:
    """Each command line of a page, and the output under it."""
    for block in re.findall(r"```console\n\$ warren (.*?)\n(.*?)```", page, re.DOTALL):
        yield block[0], block[1]


def shape(output: str) -> str:
    """Of the first line of an output, without what differs from run to run."""
    return _VARIABLE.sub(" ", output.partition("\n")[0]).strip()


def run(lab: Lab, line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command on the lab's first node."""
    (folder / "manifests.yaml").write_text(WRONG)
    given = line.format(manifests="manifests.yaml", report="node1.tar.gz")
    node = lab.node("node1")
    inside = ["sh", "-c", f"cd {folder}; exec {sys.executable} -P -m agent.cli.main {given}"]
    environment = {**os.environ, "WARREN_RUN_DIR": str(node.run_dir), "COLUMNS": str(WIDTH)}
    return subprocess.run(node.command(inside), capture_output=True, text=True, env=environment, check=False)


@contextmanager
def traffic(lab: Lab) -> Iterator[Callable[[], None]]:
    """A connection that stays open between the nodes, requests in turn, and something to ask at once."""
    client = _on_node1(lab, "client")
    far = next(pod for pod in lab.pods if pod.deployment == "web" and pod.node == "node2")
    script = f"import socket, time; s = socket.create_connection(('{far.ipv4}', 8080)); time.sleep(600)"
    open_ = client.popen([sys.executable, "-c", script])
    argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", "http://web/"]
    asking = client.popen(["sh", "-c", f"while sleep 0.2; do {' '.join(argv)}; done"])

    def connect() -> None:
        client.run(argv, check=False)

    try:
        yield connect
    finally:
        for process in (open_, asking):
            process.kill()
            process.wait()


@contextmanager
def denied(lab: Lab, folder: Path) -> Iterator[None]:
    """With the policy in force."""
    lab.cluster.put([DENIED])
    until(lambda: run(lab, "why client web", folder).returncode == 1, what="the policy is in force")
    try:
        yield
    finally:
        lab.cluster.delete(Key("AuthorizationPolicy", "default", "nobody"))
        until(lambda: run(lab, "why client web", folder).returncode == 0, what="it is over")


def _section(lab: Lab, name: str, folder: Path) -> str:
    command = warren.get_command(Context(warren), name)
    assert command
    text = command.get_short_help_str(limit=400)
    parts = [f"\n## `warren {name}`\n\n{text}\n"]
    with traffic(lab) as connect:
        for line, under_policy in SHOWN[name]:
            connect()
            if under_policy:
                with denied(lab, folder):
                    connect()
                    parts.append(_block(lab, line, folder))
            else:
                parts.append(_block(lab, line, folder))
    return "".join(parts)


def _block(lab: Lab, line: str, folder: Path) -> str:
    done = run(lab, line, folder)
    given = line.format(manifests="manifests.yaml", report="node1.tar.gz")
    said = _TOKEN.sub("/TOKEN/", done.stdout + done.stderr)
    output = "\n".join(text.rstrip() for text in said.splitlines())
    code = f"\nExit code {done.returncode}.\n" if done.returncode else ""
    return f"\n```console\n$ warren {given}\n{output}\n```\n{code}"


def _on_node1(lab: Lab, deployment: str) -> Pod:
    return next(pod for pod in lab.pods if pod.deployment == deployment and pod.node == "node1")
