"""A policy that is refused holds strictly: real connections, and who is told why."""

import re
from typing import Any

import pytest

from tests.mesh.conftest import Manifest, Mesh
from tests.mesh.test_authz import explained
from tests.mesh.test_policy import (
    PODS,
    applied,
    authentication,
    authorization,
    becomes,
    principal,
    reaching,
    serving,  # noqa: F401
)
from tests.support.wait import until

OF_A = {"selector": {"matchLabels": {"app": "a"}}}
FROM_B: Any = {"from": [{"source": {"principals": [principal("b")]}}]}
TOMORROW = {"when": [{"key": "source.tomorrow", "values": ["x"]}]}
BLOCK = {"from": [{"source": {"principals": [principal("b")], "ipBlocks": ["10.0.0.0/33"]}}]}
PORT = {**FROM_B, "to": [{"operation": {"ports": ["http"]}}]}
MODES = {"mtls": {"mode": "STRICT"}, "portLevelMtls": {"0": {"mode": "DISABLE"}, "7100": {"mode": "DISABLE"}}}
BUT_B = {"a", "outside"}
B = {"near", "far"}
BEYOND = "nobody is let in beyond what is understood"
MATCHING = "whoever might match is denied"


def marked(manifest: Manifest, mark: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": {"istio.io/dry-run": mark}}}


@pytest.mark.parametrize(
    ("manifest", "let_in", "refused", "means"),
    [
        (authorization("p", action="DENY", rules=[TOMORROW], **OF_A), {"a"}, "far", "nobody is let in"),
        (authorization("p", action="DENY", rules=[BLOCK], **OF_A), BUT_B, "far", MATCHING),
        (authorization("p", action="DENY", rules=[PORT], **OF_A), BUT_B, "far", MATCHING),
        (authorization("p", rules=[TOMORROW, FROM_B], **OF_A), {"a", *B}, "a", BEYOND),
        (authorization("p", rules=[PORT], **OF_A), {"a"}, "far", BEYOND),
        (
            marked(authorization("p", action="DENY", rules=[FROM_B], **OF_A), "maybe"),
            BUT_B,
            "far",
            MATCHING,
        ),
        (authentication("p", **MODES, **OF_A), {"a", *B}, "outside", "plain text is refused"),
    ],
    ids=["key", "block", "port", "beside-a-good-one", "allow", "dry-run", "strict"],
)
def test_it_lets_nobody_in_whom_it_might_keep_out(
    mesh: Mesh, manifest: Manifest, let_in: set[str], refused: str, means: str
) -> None:
    log = mesh.lab.node("node1").log("tunnel")
    written = log.stat().st_size
    with applied(mesh, manifest):
        becomes(lambda: reaching(mesh, "a"), let_in)
        assert reaching(mesh, "near") == set(PODS), "it is for a alone"
        code, text = explained(mesh, "plain" if refused == "outside" else refused, 7100)
        assert code == 1
        assert f"{manifest['kind']} default/p was refused (" in text and f"): {means}\n" in text
        lines = re.compile(rf"p, refused \(.*\): {means}")
        until(lambda: lines.search(log.read_text()[written:]), what="the access log says so")


def test_its_last_good_version_stays(mesh: Mesh) -> None:
    good = authorization("p", action="DENY", rules=[FROM_B], **OF_A)
    with applied(mesh, good):
        becomes(lambda: reaching(mesh, "a"), BUT_B)
        mesh.lab.cluster.put([authorization("p", action="DENY", rules=[TOMORROW], **OF_A)])
        means = "): a good version stays in force\n"
        until(lambda: means in explained(mesh, "far", 7100)[1], what="it says that it was refused")
        assert reaching(mesh, "a") == BUT_B
        mesh.lab.cluster.put([authorization("p", action="ALLOW", rules=[FROM_B], **OF_A)])
        becomes(lambda: reaching(mesh, "a"), {"a", *B})
        assert "was refused" not in explained(mesh, "far", 7100)[1]
