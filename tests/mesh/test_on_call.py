"""At 3 a.m.: for each thing that goes wrong one command, or one line of the access log, names the cause."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agent.cli import main
from agent.lab import Lab, mesh
from agent.model.schema.objects import Key
from tests.support.wait import until

WITHIN = 2.0  # seconds, of the command
WIDTH = 80  # columns
Manifest = dict[str, Any]
Fault = Callable[[Lab], Iterator[None]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(name=f"wt-oncall-{os.getpid()}") as lab:
        yield lab


@dataclass
class Check:
    """`warren check` on a node of the lab: what it says, and how long it took to say it (seconds)."""

    lab: Lab
    capsys: pytest.CaptureFixture[str]
    took: float = 0.0

    def __call__(self, node: str, *options: str) -> tuple[int, str]:
        self.capsys.readouterr()
        began = time.monotonic()
        code = main.run(["lab", "--name", self.lab.state.name, "check", node, *options])
        self.took, said = time.monotonic() - began, self.capsys.readouterr()
        text = said.out
        assert said.err == ""
        assert max(map(len, text.splitlines())) <= WIDTH, text
        return code, " ".join(text.split())

    def says(self, node: str, *words: str) -> None:
        """Waits until the first problem is that one, and until it was said in time: a machine may be busy."""
        seen = [""]

        def said() -> bool:
            code, seen[0] = self(node)
            first = seen[0].removeprefix("wrong: ").partition(" wrong: ")[0]
            return code == 1 and all(word in first for word in words) and self.took < WITHIN

        until(said, what=f"{words} within {WITHIN} s")


@pytest.fixture
def check(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setenv("COLUMNS", "80")
    return Check(lab, capsys)


@contextmanager
def during(fault: Fault, lab: Lab) -> Iterator[None]:
    """A fault, which is mended whatever comes of it: the next test's is another one."""
    going = fault(lab)
    next(going)
    try:
        yield
    finally:
        next(going, None)


def tunnel_dead(lab: Lab) -> Iterator[None]:
    lab.node("node1").stop("tunnel", within=0)
    yield
    lab.node("node1").start("tunnel")


def agent_dead(lab: Lab) -> Iterator[None]:
    lab.node("node1").stop("agent", within=0)
    yield
    lab.node("node1").start("agent")


def authority_dead(lab: Lab) -> Iterator[None]:
    lab.node("node1").stop("ca", within=0)
    yield
    lab.node("node1").start("ca")


def certificate_missing(lab: Lab) -> Iterator[None]:
    """The authority knows nobody's token any more, and a pod of a new service account comes."""
    tokens = lab.state.run / "ca" / "tokens.json"
    former = tokens.read_text()
    tokens.write_text("{}")
    fresh = lab.state.run / "fresh.yaml"
    fresh.write_text(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: fresh}}\n---\n"
        "{apiVersion: v1, kind: Pod, metadata: {name: fresh},"
        " spec: {nodeName: node1, serviceAccountName: fresh, containers: [{name: a}]}}\n"
    )
    (pod,) = lab.apply([fresh])
    yield
    tokens.write_text(former)
    lab.delete(pod)


def wrong_trust_domain(lab: Lab) -> Iterator[None]:
    """Of a node's tunnel."""
    node = lab.node("node1")
    node.stop("tunnel", within=0)
    argv = [
        argument.replace("trust-domain=cluster.local", "trust-domain=elsewhere")
        for argument in mesh.command(node.state, node.place, "tunnel")
    ]
    mesh.run(node.state, node.place, "tunnel", argv)
    yield
    node.stop("tunnel", within=0)
    node.start("tunnel")


def in_force(lab: Lab, manifest: Manifest) -> Iterator[None]:
    lab.cluster.put([manifest])
    yield
    lab.cluster.delete(Key(manifest["kind"], "default", manifest["metadata"]["name"]))


def policy(name: str, version: str = "v1", **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    group = f"security.istio.io/{version}"
    return {"apiVersion": group, "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def policy_refused(lab: Lab) -> Iterator[None]:
    yield from in_force(
        lab, policy("unknown", rules=[{"when": [{"key": "source.tomorrow", "values": ["x"]}]}])
    )


def wrong_version(lab: Lab) -> Iterator[None]:
    yield from in_force(lab, policy("future", version="v7", rules=[{}]))


CHECKED = [
    (tunnel_dead, ["tunnel: no answer", "Connection refused", "start it"]),
    (agent_dead, ["agent: no answer", "Connection refused", "start it"]),
    (authority_dead, ["CA: https://", "no connection", "start it"]),
    (
        certificate_missing,
        ["certificate: spiffe://cluster.local/ns/default/sa/fresh has none", "UNAUTHENTICATED"],
    ),
    (wrong_trust_domain, ["certificate: spiffe://elsewhere/ns/default/sa/", "has none", "trust domain"]),
    (
        policy_refused,
        ["refused: ", "AuthorizationPolicy default/unknown", "source.tomorrow", "nobody is let in"],
    ),
    (wrong_version, ["refused: ", "AuthorizationPolicy default/future", "security.istio.io/v7"]),
]


@pytest.mark.parametrize(("fault", "words"), CHECKED, ids=lambda value: getattr(value, "__name__", ""))
def test_check_names_the_cause(lab: Lab, check: Check, fault: Fault, words: list[str]) -> None:
    until(lambda: check("node1")[0] == 0, what="all is well before")
    with during(fault, lab):
        check.says("node1", *words)
    until(lambda: check("node1")[0] == 0, what="all is well again")


def denied(lab: Lab) -> Iterator[None]:
    yield from in_force(lab, policy("nobody", action="DENY", selector=OF_WEB, rules=[{}]))


def strict(lab: Lab) -> Iterator[None]:
    manifest = policy("strict", mtls={"mode": "STRICT"})
    yield from in_force(lab, {**manifest, "kind": "PeerAuthentication"})


def no_endpoints(lab: Lab) -> Iterator[None]:
    metadata = {"name": "empty", "namespace": "default"}
    spec = {"clusterIP": "10.96.77.77", "clusterIPs": ["10.96.77.77"], "ports": [{"port": 80}]}
    yield from in_force(lab, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})


def wrong_principal(lab: Lab) -> Iterator[None]:
    """A policy for callers of another trust domain."""
    source = {"principals": ["elsewhere/ns/default/sa/client"]}
    rules = [{"from": [{"source": source}]}]
    yield from in_force(lab, policy("elsewhere", selector=OF_WEB, rules=rules))


OF_WEB = {"matchLabels": {"app": "web"}}
TO_WEB = ("client", "web")
LOGGED = [
    (denied, TO_WEB, "explicitly denied by policy: default/nobody", "policy_denied"),
    (strict, ("outside", "web"), "PeerAuthentication, mode STRICT: plain text", "policy_denied"),
    (no_endpoints, ("client", "10.96.77.77"), "the service has no healthy endpoint", "no_endpoint"),
    (wrong_principal, TO_WEB, "allow policies exist, and none of them allows it", "policy_not_allowed"),
]


@pytest.mark.parametrize(("fault", "way", "words", "reason"), LOGGED)
def test_the_access_log_names_the_cause(
    lab: Lab, fault: Fault, way: tuple[str, str], words: str, reason: str
) -> None:
    """Of the refused connection itself, within two seconds, at one of the two nodes."""
    source, target = way
    caller = lab.pod(f"deploy/{source}")
    host = target if target[0].isdigit() else str(lab.pod(f"deploy/{target}").ipv4)
    argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", f"http://{host}:{80 if host == target else 8080}/"]
    with during(fault, lab):
        logs = [node.log("tunnel") for node in lab.nodes]
        marks = [log.stat().st_size for log in logs]
        until(lambda: caller.run(argv, check=False).returncode, what=f"{fault.__name__} is in force")

        def lines() -> list[str]:
            texts = [log.read_bytes()[mark:].decode() for log, mark in zip(logs, marks, strict=True)]
            return [line for text in texts for line in text.splitlines() if f"reason={reason}" in line]

        (line, *_) = until(lines, timeout=WITHIN, what=f"a line with reason={reason}")
        assert words in line
    until(lambda: not caller.run(argv, check=False).returncode or host == target, what="all is well again")
