"""`warren authz` on a node whose tunnel carries connections, in HBONE and in plain text."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mesh.conftest import Manifest, Mesh
from tests.mesh.test_policy import (
    OTHER,
    PORT,
    applied,
    authentication,
    authorization,
    becomes,
    principal,
    reaches,
    reaching,
    serving,  # noqa: F401
)
from tests.support import sockets
from tests.support.wait import until

OF_A = {"matchLabels": {"app": "a"}}
FROM_B = {"from": [{"source": {"principals": [principal("b")]}}]}
ONLY_B = authorization("only-b", selector=OF_A, rules=[FROM_B])
STRICT = authentication("strict", mtls={"mode": "STRICT"})


def authz(mesh: Mesh, *arguments: str, given: str | None = None) -> tuple[int, str]:
    """Exit code and output of the command on the node of `a`."""
    node = mesh.lab.node("node1")
    argv = node.command([sys.executable, "-P", "-m", "agent.cli.main", "authz", *arguments])
    env = {**os.environ, "WARREN_RUN_DIR": str(node.run_dir)}
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, env=env)
    return done.returncode, done.stdout + done.stderr


def explained(mesh: Mesh, source: str, port: int = PORT, target: str = "a") -> tuple[int, str]:
    return authz(mesh, "explain", source, target, "--port", str(port))


def dry(manifest: Manifest) -> Manifest:
    annotations = {"istio.io/dry-run": "true"}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}


def over(mesh: Mesh, pod: str, numbers: list[int]) -> bool:
    """Whether all of a pod's connections are."""
    return mesh.inside(pod).call(sockets.broken, numbers) == len(numbers)


@contextmanager
def connected(mesh: Mesh, counts: dict[str, int]) -> Iterator[dict[str, list[int]]]:
    """That many connections of each pod to `a`, open."""
    to = (mesh.address("a", 4), PORT)
    numbers = {pod: mesh.inside(pod).call(sockets.connect_many, to, count) for pod, count in counts.items()}
    yield numbers
    for pod, those in numbers.items():
        mesh.inside(pod).call(sockets.forget_all, those)


def test_explain_names_the_rule_that_decides(mesh: Mesh) -> None:
    assert explained(mesh, "far") == (
        0,
        f"from default/far, spiffe://{principal('b')}, {mesh.address('far', 4)}\n"
        f"to   default/a, {mesh.address('a', 4)}\n"
        "assumed: namespace default for far\n"
        "assumed: namespace default for a\n"
        f"port {PORT}: allowed: no policy denies it, and none has the action ALLOW\n",
    )
    other = {"to": [{"operation": {"ports": [str(OTHER)]}}]}
    not_port = authorization("not-port", action="DENY", rules=[other])
    with applied(mesh, ONLY_B, not_port):
        becomes(lambda: reaching(mesh, "a"), {"a", "near", "far"})
        until(lambda: not reaches(mesh, "far", "a", OTHER), what="nobody reaches the other port")
        code, text = explained(mesh, "far")
        assert code == 0
        assert text.splitlines()[4:] == [
            f"port {PORT}: allowed by AuthorizationPolicy default/only-b, rules[0]",
            "├── AuthorizationPolicy default/not-port: DENY",
            f"│   └── rules[0] does not match: ports: {PORT} is not {OTHER}",
            "└── AuthorizationPolicy default/only-b: ALLOW",
            "    └── rules[0] matches",
        ]
        code, text = explained(mesh, "a")
        assert code == 1
        assert "not allowed: none of the policies with the action ALLOW matches" in text
        assert f"principals: {principal('a')} is not {principal('b')}" in text
        code, text = explained(mesh, "outside")
        assert code == 1
        assert "from default/outside, plain text, no identity" in text
        assert f"principals: plain text has no identity, which would have to be {principal('b')}" in text
        assert explained(mesh, f"spiffe://{principal('b')}")[0] == 0
        code, text = explained(mesh, mesh.address("far", 6), OTHER)
        assert code == 1
        assert f"port {OTHER}: denied by AuthorizationPolicy default/not-port, rules[0]" in text
        code, text = authz(mesh, "explain", "far", "a", "--json")
        [one] = json.loads(text)["ports"]
        assert (code, one["port"], one["policy"], one["rule"]) == (0, 7000, "default/only-b", 0), (
            "its Service's"
        )


def test_explain_says_what_peer_authentication_does(mesh: Mesh) -> None:
    with applied(mesh, STRICT):
        becomes(lambda: reaching(mesh, "a"), {"a", "near", "far"})
        code, text = explained(mesh, "plain")
        assert code == 1
        assert "denied by PeerAuthentication default/strict (mode STRICT): it is plain text" in text
        code, text = explained(mesh, "far")
        assert code == 0
        assert text.splitlines()[-2:] == [
            "└── PeerAuthentication default/strict (mode STRICT): plain text is refused",
            f"    └── it comes by mutual TLS, as {principal('b')}",
        ]


def test_explain_says_where_to_ask(mesh: Mesh) -> None:
    code, text = explained(mesh, "a", target="far")
    assert (code, text) == (
        2,
        "warren: far is no pod or Service of the mesh on this node; ask on node2, where it runs: "
        "pods are default/a, default/near\n",
    )


def test_explain_names_the_field_that_cannot_be_judged(mesh: Mesh) -> None:
    get = {"to": [{"operation": {"methods": ["GET"], "ports": [str(PORT)]}}]}
    for action, verdict in (
        ("ALLOW", "it never matches: methods cannot be"),
        ("DENY", "matches (methods cannot be"),
    ):
        with applied(mesh, authorization("get", action=action, selector=OF_A, rules=[get])):
            becomes(lambda: reaching(mesh, "a") - {"a"}, set())  # itself it always reaches
            code, text = explained(mesh, "far")
            assert (code, f"{verdict} judged at L4" in text) == (1, True), text


def test_check_says_what_a_change_would_close_and_changes_nothing(mesh: Mesh, tmp_path: Path) -> None:
    counts = {"far": 30, "near": 20, "outside": 10}
    rule = {"from": [{"source": {"ipBlocks": [mesh.address("far", 4)]}}]}
    cut = authorization("cut", action="DENY", selector=OF_A, rules=[rule])
    file = tmp_path / "change.yaml"
    file.write_text(yaml.dump_all([cut, STRICT]))
    with connected(mesh, counts) as numbers:
        code, text = authz(mesh, "check", "-f", str(file), "--json")
        said = json.loads(text)
        by_policy = {
            policy: sum(one["policy"] == policy for one in said["closed"])
            for policy in ("default/cut", "istio-system/istio_converted_static_strict")
        }
        assert (code, [*by_policy.values()], len(said["kept"])) == (1, [30, 10], 20)
        sources = {one["connection"]["src.identity"] for one in said["kept"]}
        assert sources == {f"spiffe://{principal('b')}"}
        code, text = authz(mesh, "check", "-f", "-", given=file.read_text())
        assert code == 1
        assert "40 of 60 open connections would be closed" in text
        assert "denied by AuthorizationPolicy default/cut, rules[0]" in text
        assert "denied by PeerAuthentication (mode STRICT): it is plain text" in text
        for pod, count in counts.items():
            assert mesh.inside(pod).call(sockets.echoing, numbers[pod]) == count, "nothing has changed"
        with applied(mesh, cut, STRICT):
            for pod in ("far", "outside"):
                until(partial(over, mesh, pod, numbers[pod]), what=f"those of {pod} are closed")
            assert mesh.inside("near").call(sockets.echoing, numbers["near"]) == counts["near"]


def test_check_of_what_harms_nobody_and_of_what_is_invalid(mesh: Mesh, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    rules: list[Any] = [{"when": [{"key": "connection.sni", "values": ["a"]}]}, {}]
    good.write_text(yaml.dump(authorization("all", selector=OF_A, rules=rules)))
    bad.write_text(yaml.dump(authorization("bad", action="DENY")))
    with connected(mesh, {"far": 3}):
        code, text = authz(mesh, "check", "-f", str(good))
        assert code == 0
        assert "allowed by AuthorizationPolicy default/all, rules[1]" in text, "as its author counts"
        problem = "AuthorizationPolicy default/all: rules[0]: connection.sni cannot be judged"
        assert f"problem: {good}: {problem}" in text
        assert "0 of 3 open connections would be closed" in text
        code, text = authz(mesh, "check", "-f", str(good), "-f", str(bad))
        assert code == 2
        where = f"{bad}:7: AuthorizationPolicy default/bad"
        assert f"invalid: {where}: spec.rules: action DENY needs rules" in text


@pytest.mark.parametrize("source", ["far", "outside"])
def test_dry_run_counts_what_would_have_been_refused(mesh: Mesh, source: str) -> None:
    rule = {"from": [{"source": {"ipBlocks": [mesh.address(source, 4)]}}]}
    trial = dry(authorization(f"trial-{source}", action="DENY", selector=OF_A, rules=[rule]))
    audit = authorization(f"audit-{source}", action="AUDIT", selector=OF_A, rules=[rule])

    def counted() -> dict[str, int]:
        code, text = authz(mesh, "dry-run", "--json")
        assert code == 0
        return {one["name"].removeprefix("default/"): one["times"] for one in json.loads(text)}

    with applied(mesh, trial, audit):
        until(lambda: counted().keys() == {f"trial-{source}", f"audit-{source}"}, what="both are in force")
        before = counted()
        for _ in range(3):
            assert reaches(mesh, source, "a")
        assert counted() == {name: times + 3 for name, times in before.items()}
        assert reaches(mesh, "near", "a")
        assert counted() == {name: times + 3 for name, times in before.items()}
        shown = authz(mesh, "dry-run")[1]
        assert f"default/trial-{source} │ DENY" in shown
        text = explained(mesh, source)[1]
        assert f"AuthorizationPolicy default/trial-{source}, in dry run, would refuse it" in text
        assert f"AuthorizationPolicy default/audit-{source} audits it" in text
    none = "No policy is in dry run, and none has the action AUDIT.\n"
    until(lambda: authz(mesh, "dry-run")[1] == none, what="they are gone")
