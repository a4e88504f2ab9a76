"""The demonstration can fail: where there is no mesh, its checks say so. (With a mesh: test_meshed.py.)"""

import pytest

from agent.lab import Lab, LabError, demo


@pytest.fixture
def cast(plain: Lab) -> demo.Cast:
    client = plain.pod("deploy/client")
    web, outside = (
        next(pod for pod in plain.pods_of(f"deploy/{name}") if pod.node != client.node)
        for name in ("web", "outside")
    )
    neighbour = next(pod for pod in plain.pods_of("deploy/web") if pod.node == client.node)
    return demo.Cast(plain, "default", client, web, outside, neighbour)


def test_what_needs_no_mesh_holds(cast: demo.Cast) -> None:
    names = demo.names_resolve(cast)
    assert (names.holds, len(names.seen)) == (True, 3)
    outside = demo.outside_is_reached_plainly(cast)
    assert outside.holds
    assert "0 times" not in outside.seen[-1]


def test_services_work_without_a_mesh_too(cast: demo.Cast) -> None:
    """kube-proxy's part, which the lab does for pods outside of the mesh."""
    evidence = demo.addresses_are_kept(cast)
    assert evidence.holds, evidence.seen
    assert len(evidence.seen) == 4
    assert f"saw {cast.client.ipv4}" in evidence.seen[2]


def test_only_the_mesh_tells_of_direct_connections(cast: demo.Cast) -> None:
    evidence = demo.one_node_needs_no_tunnel(cast)
    assert not evidence.holds
    assert "0 connections went straight to it" in evidence.seen[0]


def test_plain_text_on_the_link_is_seen(cast: demo.Cast) -> None:
    evidence = demo.link_carries_tls_only(cast)
    assert not evidence.holds
    assert evidence.seen[0] == "TLS records: none"


def test_a_lab_that_cannot_show_it(plain: Lab) -> None:
    with pytest.raises(LabError, match="warren lab up --again"):
        next(demo.demonstrate(plain))
