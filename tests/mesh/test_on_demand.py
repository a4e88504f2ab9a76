"""The same where each tunnel holds only the part of the mesh that it meets, and nobody may leave the mesh."""

import json
import os
from collections.abc import Iterator

import pytest

from agent.lab import Lab
from tests.mesh.conftest import PODS, Connector, Mesh
from tests.mesh.test_egress import REFUSED, counted, unknown
from tests.mesh.test_traffic import FAMILIES, TARGETS, carries
from tests.support import sockets


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WARREN_ON_DEMAND", "true")
        environment.setenv("WARREN_OUTBOUND_TRAFFIC_POLICY", "REGISTRY_ONLY")
        with Lab.up([PODS], name=f"wt-demand-{os.getpid()}") as lab:
            mesh = Mesh(lab, {})
            try:
                yield mesh
            finally:
                for resident in mesh.residents.values():
                    resident.close()


def test_at_the_first_meeting_a_connection_waits_and_is_tunnelled(connect: Connector, mesh: Mesh) -> None:
    node = mesh.lab.node(mesh.lab.pod("a").node)

    def told(path: str) -> str:
        return node.run(["curl", "-s", f"http://127.0.0.1:15000/{path}"]).stdout

    def held() -> set[str]:
        return {workload["name"] for workload in json.loads(told("config_dump"))["workloads"]}

    assert held() == {"a", "near"}, "its own pods"
    assert carries(connect("a", "far"))
    assert held() == {"a", "near", "far"}
    assert mesh.lab.pod("far").identity in told("connections"), "both ends have proven who they are"


@FAMILIES
@TARGETS
def test_a_pod_reaches_a_pod(connect: Connector, target: str, family: int) -> None:
    assert carries(connect("a", target, family))


@FAMILIES
@TARGETS
def test_a_pod_reaches_a_service(connect: Connector, mesh: Mesh, target: str, family: int) -> None:
    assert carries(connect("near", target, family, to=(mesh.service(target, family), 80)))


@FAMILIES
def test_what_the_agent_does_not_know_is_refused(mesh: Mesh, family: int) -> None:
    before = counted(mesh, REFUSED)
    assert mesh.inside("a").call(sockets.is_reset, unknown(family))
    assert counted(mesh, REFUSED) == before + 1
