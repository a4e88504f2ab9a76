"""What an object that cannot be read may have made, and what it has not."""

import random

import pytest

from agent.model.mesh import ROOT_NAMESPACE as ROOT
from agent.model.mesh import Mesh
from agent.model.model import Model, apply
from agent.model.resources import ADDRESS, AUTHORIZATION, TRAFFIC
from agent.model.schema.objects import Key, key_of
from agent.model.unread import NOTHING_UNREAD, Unread
from tests.agent.model.test_model import listed, random_object


@pytest.mark.parametrize("seed", range(20))
def test_all_that_is_missing_without_an_object_may_be_its_own(seed: int) -> None:
    rng = random.Random(seed)
    objects = {key_of(item): item for item in (random_object(rng) for _ in range(40))}
    whole, _ = apply(Model(), list(objects.items()))
    for key in objects:
        without, _ = apply(Model(), [change for change in objects.items() if change[0] != key])
        unread = Unread(Mesh(), frozenset({key}))
        missing = listed(whole).keys() - listed(without).keys()
        assert not {name for name in missing if not unread.may_make(*name)}, key


def test_what_is_not_acted_on_makes_nothing() -> None:
    """Its name may be known, of one that is misspelt."""
    assert not Unread.of(Mesh(), {}, [Key("WasmPlugin", "ns", "a")]).may_make(AUTHORIZATION, "ns/a")


POD = "Kubernetes//Pod/{}"
ENTRY = "Kubernetes/networking.istio.io/WorkloadEntry/{}"
INLINE = "Kubernetes/networking.istio.io/ServiceEntry/{}/10.0.0.1"
SLICE = "Kubernetes/discovery.k8s.io/EndpointSlice/{}/fd00::1"
SERVICE = "{}.svc.cluster.local"
STRICT = "istio-system/istio_converted_static_strict"
CONVERTED = "{}/converted_peer_authentication_a"


@pytest.mark.parametrize(
    ("key", "type_url", "names", "others"),
    [
        (Key("Pod", "ns", "a"), ADDRESS, [POD], [ENTRY, INLINE, SLICE, SERVICE]),
        (Key("WorkloadEntry", "ns", "a"), ADDRESS, [ENTRY], [POD, INLINE, SLICE, SERVICE]),
        (Key("EndpointSlice", "ns", "a"), ADDRESS, [SLICE], [POD, ENTRY, INLINE, SERVICE]),
        (Key("ServiceEntry", "ns", "a"), ADDRESS, [INLINE, "{}"], [POD, ENTRY, SLICE]),
        (Key("Service", "ns", "a"), ADDRESS, ["ns/a.ns.svc.cluster.local"], [POD, ENTRY, INLINE]),
        (Key("AuthorizationPolicy", "ns", "a"), AUTHORIZATION, ["{}"], [STRICT, CONVERTED.format("ns")]),
        (Key("PeerAuthentication", "ns", "a"), AUTHORIZATION, [STRICT, CONVERTED.format("ns")], ["{}"]),
        (Key("Namespace", "", "ns"), ADDRESS, [], [POD, ENTRY, INLINE, SLICE, SERVICE]),
        (Key("Node", "", "a"), ADDRESS, [], [POD, ENTRY, INLINE, SLICE, SERVICE]),
        (Key("Pod", "", ""), ADDRESS, [], [POD, ENTRY, INLINE, SLICE, SERVICE]),
    ],
    ids=lambda value: str(value) if isinstance(value, Key) else "",
)
def test_its_own_and_nobody_elses(key: Key, type_url: str, names: list[str], others: list[str]) -> None:
    unread = Unread(keys=frozenset({key}))
    assert all(unread.may_make(type_url, name.format("ns/a")) for name in names)
    foreign = {name.format("ns/a") for name in others}
    foreign |= {name.format(place) for name in (*names, *others) for place in ("other/a", "ns2/a")}
    foreign |= {name.format("ns/a2") for name in names if key.kind != "ServiceEntry"}  # which may have any
    mine = {name.format("ns/a") for name in names}
    assert not {name for name in foreign - mine if unread.may_make(type_url, name)}
    assert not any(unread.may_make(TRAFFIC, name) for name in ("", "ns"))


def test_what_a_sidecar_says() -> None:
    of_namespace, of_mesh = (Unread(keys=frozenset({Key("Sidecar", where, "a")})) for where in ("ns", ROOT))
    assert [of_namespace.may_make(TRAFFIC, name) for name in ("ns", "", "other")] == [True, False, False]
    assert [of_mesh.may_make(TRAFFIC, name) for name in ("ns", "")] == [False, True]
    assert not of_mesh.may_make(ADDRESS, POD.format("istio-system/a"))


def test_an_object_of_which_nothing_can_be_told_may_be_any() -> None:
    everything = [(ADDRESS, POD.format("ns/a")), (AUTHORIZATION, STRICT), (TRAFFIC, ""), ("else", "x")]
    assert all(Unread(keys=frozenset({None})).may_make(*name) for name in everything)
    assert not any(NOTHING_UNREAD.may_make(*name) for name in everything)
