"""What may leave the mesh: real connections to addresses that it knows and to one that it does not."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest

from agent.lab import addresses
from agent.model.mesh import ROOT_NAMESPACE
from tests.mesh.conftest import Manifest, Mesh, in_force
from tests.mesh.test_traffic import FAMILIES
from tests.support import sockets
from tests.support.resident import Resident
from tests.support.wait import until

PORT = 7200
ENTRY = {4: "192.0.2.1", 6: "2001:db8::1"}  # of a ServiceEntry


@pytest.fixture(scope="module", autouse=True)
def serving(mesh: Mesh) -> Iterator[None]:
    """Servers in pods, and one that the mesh does not know: on the other node itself."""
    node = mesh.lab.node("node2")
    resident = Resident(mesh.lab.pod("outside").cgroup, node.netns)
    try:
        resident.call(sockets.serve, PORT)
        for pod in ("near", "far", "outside"):
            mesh.inside(pod).call(sockets.serve, PORT)
        yield
    finally:
        resident.close()


@pytest.fixture(scope="module", autouse=True)
def defined(mesh: Mesh) -> None:
    """The root namespace, and a ServiceEntry of each family."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ROOT_NAMESPACE}}
    mesh.lab.cluster.put([namespace, *(entry(mesh, family) for family in (4, 6))])


def entry(mesh: Mesh, family: int) -> Manifest:
    """A ServiceEntry whose address leads to the pod `outside`."""
    spec = {
        "hosts": [f"v{family}.example"],
        "addresses": [ENTRY[family]],
        "ports": [{"number": PORT, "name": "tcp"}],
        "resolution": "STATIC",
        "endpoints": [{"address": mesh.address("outside", family)}],
    }
    return manifest("ServiceEntry", "default", f"v{family}", spec)


def sidecar(namespace: str, mode: str) -> Manifest:
    return manifest("Sidecar", namespace, "default", {"outboundTrafficPolicy": {"mode": mode}})


def manifest(kind: str, namespace: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def applied(mesh: Mesh, *manifests: Manifest) -> AbstractContextManager[None]:
    def over() -> bool:
        return '"traffic":[]' in tunnel_of_a(mesh, "15000/config_dump")

    return in_force(mesh, manifests, over, "nothing holds any more")


def unknown(family: int) -> sockets.Address:
    """The other node's own address, which is nobody's in the mesh."""
    return str(addresses.node_v4(2) if family == 4 else addresses.node_v6(2)), PORT


def leaves(mesh: Mesh, family: int) -> bool:
    """Whether `a` reaches what the mesh does not know."""
    return not mesh.inside("a").call(sockets.is_turned_away, unknown(family))


def reaches(mesh: Mesh, address: str) -> bool:
    return not mesh.inside("a").call(sockets.is_turned_away, (address, PORT))


def tunnel_of_a(mesh: Mesh, path: str) -> str:
    return mesh.lab.node("node1").run(["curl", "-s", f"http://127.0.0.1:{path}"]).stdout


def heard(mesh: Mesh, namespace: str, mode: str) -> None:
    """Wait until the tunnel of `a` has heard of it."""
    said = f'{{"namespace":"{namespace}","outbound_traffic_policy":"{mode}"}}'
    until(lambda: said in tunnel_of_a(mesh, "15000/config_dump"), what=f"{said} is heard")


def counted(mesh: Mesh, sample: str) -> int:
    """The sum of samples of the tunnel of `a` whose name and labels match."""
    text = tunnel_of_a(mesh, "15020/metrics")
    return sum(map(int, re.findall(rf"^{sample} (\d+)$", text, re.MULTILINE)))


REFUSED = r'warren_connections_refused_total\{reporter="source",reason="not_in_registry"\}'
BLACK_HOLE = (
    r"istio_tcp_connections_failed_total\{.*destination_service=\"BlackHoleCluster\".*response_flags=\"UH\"\}"
)


@FAMILIES
def test_what_the_mesh_does_not_know_is_refused_by_name(mesh: Mesh, family: int) -> None:
    assert leaves(mesh, family)
    with applied(mesh, sidecar(ROOT_NAMESPACE, "REGISTRY_ONLY")):
        heard(mesh, "", "REGISTRY_ONLY")
        before = counted(mesh, REFUSED), counted(mesh, BLACK_HOLE)
        assert mesh.inside("a").call(sockets.is_reset, unknown(family))
        counts = before[0] + 1, before[1] + 1
        until(lambda: (counted(mesh, REFUSED), counted(mesh, BLACK_HOLE)) == counts, what="it is counted")
        host, port = unknown(family)
        line = f"dst.addr={f'[{host}]' if family == 6 else host}:{port}\tdst.service=BlackHoleCluster\t"
        log = mesh.lab.node("node1").log("tunnel")
        until(lambda: line in log.read_text(), what="it is logged")
        last = [one for one in log.read_text().splitlines() if line in one][-1]
        assert "reason=not_in_registry\tresponse_flags=UH" in last


@FAMILIES
def test_what_the_mesh_knows_is_reached(mesh: Mesh, family: int) -> None:
    """Pods in it, one on its outside, a ServiceEntry's address; a pod's own loopback is not left for."""
    with applied(mesh, sidecar("default", "REGISTRY_ONLY")):
        heard(mesh, "default", "REGISTRY_ONLY")
        for pod in ("near", "far", "outside"):
            assert reaches(mesh, mesh.address(pod, family)), pod
        assert reaches(mesh, ENTRY[family])
        near = mesh.inside("near")
        assert not near.call(sockets.is_turned_away, ("127.0.0.1" if family == 4 else "::1", PORT))


@FAMILIES
def test_the_addresses_of_all_entries_of_one_host_are_reached(mesh: Mesh, family: int) -> None:
    entries: list[Manifest] = []
    for name, pod in (("one", "far"), ("two", "outside")):
        body = entry(mesh, family)
        address = f"{ENTRY[family]}{len(entries) + 1}"
        endpoints = [{"address": mesh.address(pod, family)}]
        spec = {"hosts": ["several.example"], "addresses": [address], "endpoints": endpoints}
        entries.append(
            {**body, "metadata": {**body["metadata"], "name": name}, "spec": {**body["spec"], **spec}}
        )

    def known(what: str) -> bool:
        return what in tunnel_of_a(mesh, "15000/config_dump")

    with in_force(mesh, entries, lambda: not known("several.example"), "they are gone"):
        for one in entries:
            address = one["spec"]["addresses"][0]
            until(partial(known, f'"{address}"'), what=f"{address} is known")
            assert all(reaches(mesh, address) for _ in range(4))


def test_a_namespace_comes_before_the_mesh(mesh: Mesh) -> None:
    only, any_ = "REGISTRY_ONLY", "ALLOW_ANY"
    with applied(mesh, sidecar(ROOT_NAMESPACE, only), sidecar("default", any_)):
        heard(mesh, "", only)
        heard(mesh, "default", any_)
        assert leaves(mesh, 4)
    with applied(mesh, sidecar(ROOT_NAMESPACE, any_), sidecar("default", only)):
        heard(mesh, "default", only)
        assert not leaves(mesh, 4)


def test_a_workload_that_is_selected_comes_before_its_namespace(mesh: Mesh) -> None:
    """What it has open and may not have is closed; its neighbour's stays."""
    outbound = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    of_a = {"workloadSelector": {"labels": {"app": "a"}}}
    only = manifest("Sidecar", "default", "of-a", {**of_a, **outbound})
    inside, beside = mesh.inside("a"), mesh.inside("near")
    leaving, staying = (one.call(sockets.connect_many, unknown(4), 1) for one in (inside, beside))
    with in_force(mesh, [only], lambda: leaves(mesh, 4), "it may leave again"):
        until(lambda: inside.call(sockets.broken, leaving) == 1, what="it is closed")
        assert not leaves(mesh, 4)
        assert beside.call(sockets.echoing, staying) == 1
        assert not beside.call(sockets.is_turned_away, unknown(4))
    inside.call(sockets.forget_all, leaving)
    beside.call(sockets.forget_all, staying)


@FAMILIES
def test_a_change_closes_what_leaves_the_mesh_and_nothing_else(mesh: Mesh, family: int) -> None:
    inside = mesh.inside("a")
    known = [mesh.address("far", family), mesh.address("outside", family), ENTRY[family]]
    leaving = inside.call(sockets.connect_many, unknown(family), 50)
    staying = [number for ip in known for number in inside.call(sockets.connect_many, (ip, PORT), 5)]
    cut = r'warren_connections_refused_total\{reporter="source",reason="policy_changed"\}'
    before = counted(mesh, cut)
    with applied(mesh, sidecar("default", "ALLOW_ANY")):
        heard(mesh, "default", "ALLOW_ANY")
        assert inside.call(sockets.broken, leaving) == 0
        assert inside.call(sockets.echoing, leaving) == 50
        mesh.lab.cluster.put([sidecar("default", "REGISTRY_ONLY")])
        heard(mesh, "default", "REGISTRY_ONLY")
        until(lambda: inside.call(sockets.broken, leaving) == 50, what="they are closed")
        assert inside.call(sockets.broken, staying) == 0
        assert inside.call(sockets.echoing, staying) == len(staying)
        until(lambda: counted(mesh, cut) == before + 50, what="they are counted")
    inside.call(sockets.forget_all, leaving + staying)


@FAMILIES
def test_what_has_become_known_stays(mesh: Mesh, family: int) -> None:
    """A ServiceEntry names where a connection goes that left the mesh when it was made."""
    inside, (host, _) = mesh.inside("a"), unknown(family)
    leaving = inside.call(sockets.connect_many, unknown(family), 1)
    name = f"node{family}.example"
    spec = {"hosts": [name], "addresses": [host], "resolution": "NONE"}
    named = manifest("ServiceEntry", "default", name, {**spec, "ports": [{"number": PORT, "name": "tcp"}]})
    with applied(mesh, named):
        until(lambda: f'"default/{name}"' in tunnel_of_a(mesh, "15000/config_dump"), what="it is known")
        with applied(mesh, sidecar("default", "REGISTRY_ONLY")):
            heard(mesh, "default", "REGISTRY_ONLY")
            assert leaves(mesh, family)
            assert inside.call(sockets.echoing, leaving) == 1
    inside.call(sockets.forget_all, leaving)
