"""At 3 a.m.: for each thing that goes wrong one command, or one line of the access log, names the cause."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agent.cli import main
from agent.lab import Lab, mesh
from agent.lab.members import Pod
from agent.model.schema.objects import Key
from tests.support.command import WIDTH, Here
from tests.support.wait import until

WITHIN = 2.0  # seconds, of the command
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

    def says(self, node: str, *words: str, as_: str = "wrong") -> None:
        """Waits until the first problem (or note) is that one, said in time: a machine may be busy."""
        seen = [""]

        def said() -> bool:
            code, seen[0] = self(node)
            found = re.search(rf"\b{as_}: (.*?)(?: (?:wrong|note|agent): |$)", seen[0])
            first = found[1] if found else ""
            return code == (as_ == "wrong") and all(word in first for word in words) and self.took < WITHIN

        until(said, what=f"{words} within {WITHIN} s")


@pytest.fixture
def check(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setenv("COLUMNS", "80")
    return Check(lab, capsys)


@pytest.fixture
def here(lab: Lab) -> Here:
    return Here(lab, "node1")


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


@contextmanager
def unknown_tokens(lab: Lab) -> Iterator[None]:
    """The authority knows nobody's token."""
    tokens = lab.state.run / "ca" / "tokens.json"
    former = tokens.read_text()
    tokens.write_text("{}")
    try:
        yield
    finally:
        tokens.write_text(former)


@contextmanager
def a_pod(lab: Lab, name: str) -> Iterator[Pod]:
    """On the first node, of a service account of its own."""
    manifest = lab.state.run / f"{name}.yaml"
    manifest.write_text(
        f"{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}\n---\n"
        f"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}},"
        f" spec: {{nodeName: node1, serviceAccountName: {name}, containers: [{{name: a}}]}}}}\n"
    )
    (pod,) = lab.apply([manifest])
    try:
        yield pod
    finally:
        lab.delete(pod)


@contextmanager
def authority(lab: Lab, *options: str) -> Iterator[None]:
    """The authority runs with these options meanwhile."""
    node = lab.node("node1")
    node.stop("ca", within=0)
    mesh.run(node.state, node.place, "ca", [*mesh.command(node.state, node.place, "ca"), *options])
    try:
        mesh.await_ready(node.state, node.place, "ca")
        yield
    finally:
        node.stop("ca", within=0)
        node.start("ca")


def certificate_missing(lab: Lab) -> Iterator[None]:
    """A pod of a new service account comes."""
    with unknown_tokens(lab), a_pod(lab, "fresh"):
        yield


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


def in_force(lab: Lab, *manifests: Manifest) -> Iterator[None]:
    lab.cluster.put(manifests)
    yield
    for one in manifests:
        lab.cluster.delete(Key(one["kind"], "default", one["metadata"]["name"]))


def manifest(kind: str, name: str, group: str = "security.istio.io/v1", **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def policy(name: str, version: str = "v1", **spec: Any) -> Manifest:
    return manifest("AuthorizationPolicy", name, f"security.istio.io/{version}", **spec)


def service(name: str, address: str, port: Manifest, **selector: str) -> Manifest:
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [port], "selector": selector}
    return manifest("Service", name, "v1", **spec)


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


def test_check_notes_a_port_name_that_makes_routes_have_no_effect(lab: Lab, check: Check) -> None:
    """By its name the port is of TCP, so that what is said of HTTP does not hold there."""
    route = {"route": [{"destination": {"host": "odd"}}]}
    routed = manifest("VirtualService", "odd", "networking.istio.io/v1", hosts=["odd"], http=[route])
    named = service("odd", "10.96.77.78", {"name": "web", "port": 80, "targetPort": 8080}, app="web")
    with during(lambda lab: in_force(lab, named, routed), lab):
        words = ["in force in part: VirtualService default/odd", "has no HTTP port", "begin its name"]
        check.says("node1", *words, as_="note")


def test_an_expired_certificate_is_named(lab: Lab, check: Check, here: Here) -> None:
    """One of the shortest life that there is, which cannot be renewed."""
    with authority(lab, "--lifetime=10"), a_pod(lab, "brief") as pod:
        identity = pod.identity
        until(lambda: here.json("certs", identity)[0]["state"] == "valid", what="it has one")
        with unknown_tokens(lab):
            check.says("node1", f"certificate: {identity} expired at ", "UNAUTHENTICATED")
            said = here.says(1, "certificate ended", "why", "brief", "web:80", within=WITHIN)
            assert "port 80: there is no valid certificate" in said.text
            argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", "http://web/"]
            until(lambda: pod.run(argv, check=False).returncode, what="the last second of its life is over")
            here.says(0, "certificate", "flows", "--pod", "brief", "--verdict", "failed")
    until(lambda: check("node1")[0] == 0, what="all is well again")


def denied(lab: Lab) -> Iterator[None]:
    yield from in_force(lab, policy("nobody", action="DENY", selector=OF_WEB, rules=[{}]))


def strict(lab: Lab) -> Iterator[None]:
    yield from in_force(lab, manifest("PeerAuthentication", "strict", mtls={"mode": "STRICT"}))


def no_endpoints(lab: Lab) -> Iterator[None]:
    yield from in_force(lab, service("empty", "10.96.77.77", {"port": 80}, app="nobody"))


def wrong_principal(lab: Lab) -> Iterator[None]:
    """A policy for callers of another trust domain."""
    source = {"principals": ["elsewhere/ns/default/sa/client"]}
    rules = [{"from": [{"source": source}]}]
    yield from in_force(lab, policy("elsewhere", selector=OF_WEB, rules=rules))


OF_WEB = {"matchLabels": {"app": "web"}}
TO_ADMIN = {"operation": {"paths": ["/admin"]}}
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
        until(lambda: caller.run(argv, check=False).returncode, what=f"{fault.__name__} is in force")
        # Once more: what was open when it came is cut for another reason.
        logs = [node.log("tunnel") for node in lab.nodes]
        marks = [log.stat().st_size for log in logs]
        assert caller.run(argv, check=False).returncode

        def lines() -> list[str]:
            texts = [log.read_bytes()[mark:].decode() for log, mark in zip(logs, marks, strict=True)]
            return [line for text in texts for line in text.splitlines() if f"reason={reason}" in line]

        (line, *_) = until(lines, timeout=WITHIN, what=f"a line with reason={reason}")
        assert words in line
    until(lambda: not caller.run(argv, check=False).returncode or host == target, what="all is well again")


WHY: dict[str, tuple[list[Manifest], str, str]] = {
    "a denied connection": (
        [policy("nobody", action="DENY", selector=OF_WEB, rules=[{}])],
        "client web",
        "denied by AuthorizationPolicy default/nobody, rules[0]",
    ),
    "a denied request": (
        [policy("admin", action="DENY", selector=OF_WEB, rules=[{"to": [TO_ADMIN]}])],
        "client web --path /admin",
        "denied by AuthorizationPolicy default/admin, rules[0]",
    ),
    "a policy that lets others in": (
        [
            policy(
                "others",
                selector=OF_WEB,
                rules=[{"from": [{"source": {"principals": ["cluster.local/ns/default/sa/other"]}}]}],
            )
        ],
        "client web",
        "none of the policies with the action ALLOW matches",
    ),
    "a broken policy": (
        [policy("broken", rules=[{"when": [{"key": "source.tomorrow", "values": ["x"]}]}])],
        "client web",
        "AuthorizationPolicy default/broken",
    ),
    "plain text where mutual TLS is asked for": (
        [manifest("PeerAuthentication", "strict", mtls={"mode": "STRICT"})],
        "outside web",
        "denied by PeerAuthentication",
    ),
    "a Service without endpoints": (
        [service("empty", "10.96.77.77", {"port": 80}, app="nobody")],
        "client empty",
        "the service has no healthy endpoint",
    ),
    "a port that the Service does not have": ([], "client web:81", "the service has no such port"),
    "a wrong name of the pods' port": (
        [service("misnamed", "10.96.77.78", {"port": 80, "targetPort": "nope"}, app="web")],
        "client misnamed",
        "port 80: the service has no",
    ),
    "REGISTRY_ONLY": (
        [
            manifest(
                "Sidecar",
                "default",
                "networking.istio.io/v1",
                outboundTrafficPolicy={"mode": "REGISTRY_ONLY"},
            )
        ],
        "client example.com:443",
        "not in the service registry",
    ),
}


@pytest.mark.parametrize("name", WHY)
def test_why_names_the_cause(lab: Lab, here: Here, name: str) -> None:
    manifests, line, words = WHY[name]
    with during(lambda lab: in_force(lab, *manifests), lab):
        said = here.says(1, words, "why", *line.split(), within=WITHIN)
        assert max(map(len, said.out.splitlines()), default=0) <= WIDTH, said.out
    if manifests:
        until(lambda: here("policies").code == 0, what="it is over")
        here.says(0, "port 80: allowed", "why", "client", "web")


def test_why_says_who_has_to_be_started(lab: Lab, here: Here) -> None:
    """Without the tunnel nothing can be decided; without the agent most can."""
    with during(tunnel_dead, lab):
        here.says(2, "no tunnel answers", "why", "client", "web", within=WITHIN)
    with during(agent_dead, lab):
        here.says(0, "no agent answers", "why", "client", "web", within=WITHIN)
    here.says(0, "port 80: allowed", "why", "client", "web")
