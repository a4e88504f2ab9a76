"""The same clients and servers beside each other, without a mesh and with it: they see the same."""

import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.lab import Lab
from tests.mesh.conftest import Mesh
from tests.support import behaving, sockets
from tests.support.behaving import TABLE, Place, Report
from tests.support.resident import Resident
from tests.support.wait import until

PODS = Path(__file__).with_name("behaviours.yaml")
_ports = itertools.count(11000)  # these, and those a thousand above, are nobody's by chance (lab/topology.py)


@pytest.fixture(scope="module", params=["straight", "tunnel"])
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """With connections within a node that go straight, and with all of them through the tunnel."""
    direct = request.param == "straight"
    with Lab.up([PODS], name=f"wt-like-{os.getpid()}", direct=direct) as lab:
        mesh = Mesh(lab, {})
        try:
            yield mesh
        finally:
            mesh.close()


def seen(client: Resident, server: Resident, name: str, place: Place) -> tuple[Report, Report]:
    """What both see of it."""
    server.call(behaving.prepare, name, place)
    with ThreadPoolExecutor(1) as threads:
        served = threads.submit(server.call, behaving.serve, name, place)
        reports = client.call(behaving.call, name, place), served.result()
    server.call(behaving.finish, place)
    return reports


def straighten(mesh: Mesh, place: Place) -> None:
    """Connections of this pair go directly from now on."""
    client, server, node = mesh.inside("client"), mesh.inside("near"), mesh.lab.node("node1")
    listener = server.call(sockets.listen, place.port)

    def is_direct() -> bool:
        before = node.verdicts()["inbound_direct"]
        client.call(sockets.forget, client.call(sockets.connect, place.to))
        return node.verdicts()["inbound_direct"] > before

    until(is_direct, what=f"{place.to} is reached directly")
    server.call(sockets.forget, listener)
    # Else one that the tunnel has still to connect is the first that the next listener accepts.
    until(lambda: json.loads(node.fetch(15000, "/connections")) == [], what="all others have ended")


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("target", ["near", "far"])
@pytest.mark.parametrize("name", TABLE)
def test_both_ends_see_what_they_see_without_a_mesh(
    mesh: Mesh, request: pytest.FixtureRequest, name: str, target: str, family: int
) -> None:
    port = next(_ports)
    reports = []
    for mark in ("-without", ""):
        client, server = f"client{mark}", f"{target}{mark}"
        place = Place(mesh.address(server, family), mesh.address(client, family), port)
        if (client, server) == ("client", "near") and "straight" in request.node.callspec.id:
            straighten(mesh, place)
        reports.append(seen(mesh.inside(client), mesh.inside(server), name, place))
    without, within = reports
    assert within == without
