import pytest
from msgspec.structs import replace

from agent.ca.placement import Placement
from agent.model.schema.kubernetes import Namespace, Pod, PodSpec
from agent.model.schema.objects import Key, Metadata, key_of
from tests.support.authority import pod

WEB = ("node1", "default", "web")


def test_a_pod_counts_from_being_scheduled_until_it_has_ended() -> None:
    placement = Placement()
    key = Key("Pod", "default", "a")
    for node, phase, runs in [
        ("", "Pending", False),
        ("node1", "Pending", True),
        ("node1", "Running", True),
        ("node1", "Unknown", True),
        ("node1", "Succeeded", False),
    ]:
        placement.apply([(key, pod("a", node, "web", phase))])
        assert placement.runs(*WEB) is runs, phase


def test_an_identity_runs_as_long_as_one_of_its_pods_does() -> None:
    placement = Placement()
    first, second = pod("a", "node1", "web"), pod("b", "node1", "web")
    placement.apply([(key_of(first), first), (key_of(second), second)])
    placement.apply([(key_of(first), None)])
    assert placement.runs(*WEB)
    assert not placement.runs("node2", "default", "web")
    assert not placement.runs("node1", "other", "web")
    placement.apply([(key_of(second), pod("b", "node2", "web"))])
    assert not placement.runs(*WEB)
    assert placement.runs("node2", "default", "web")


def test_no_account_is_no_identity() -> None:
    placement = Placement()
    placement.apply([(Key("Pod", "default", "a"), pod("a", "node1", ""))])
    assert not placement.runs("node1", "default", "default")
    assert placement.pod("default", "a") is None


def test_a_static_pod_is_no_reason_for_an_identity() -> None:
    static = pod("a", "node1", "web")
    metadata = replace(static.metadata, annotations={"kubernetes.io/config.mirror": "hash"})
    placement = Placement()
    placement.apply([(key_of(static), replace(static, metadata=metadata))])
    assert not placement.runs(*WEB)
    assert placement.pod("default", "a") is None


@pytest.mark.parametrize(
    ("labels", "host_network", "runs"),
    [
        ({"istio.io/dataplane-mode": "ambient"}, False, True),
        ({"istio.io/dataplane-mode": "ambient"}, True, False),
        ({"istio.io/dataplane-mode": "none"}, False, False),
        ({}, False, False),
    ],
)
def test_only_a_pod_of_the_mesh_is_a_reason(labels: dict[str, str], host_network: bool, runs: bool) -> None:
    """And what a kubelet may write, an annotation, makes none of it."""
    annotations = {"ambient.istio.io/redirection": "enabled"}
    metadata = Metadata(name="a", namespace="default", labels=labels, annotations=annotations)
    spec = PodSpec(node_name="node1", service_account_name="web", host_network=host_network)
    placement = Placement()
    placement.apply([(Key("Pod", "default", "a"), Pod(metadata, spec))])
    assert placement.runs(*WEB) is runs


def test_a_pod_that_is_being_deleted_is_served_until_it_is_gone() -> None:
    ending = pod("a", "node1", "web")
    metadata = replace(ending.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    placement = Placement()
    placement.apply([(key_of(ending), replace(ending, metadata=metadata))])
    assert placement.runs(*WEB)


def test_other_objects_and_unknown_pods_are_no_error() -> None:
    placement = Placement()
    placement.apply([(Key("Node", "", "node1"), None), (Key("Pod", "default", "never"), None)])
    assert not placement.runs("node1", "default", "default")


def namespace(name: str, mode: str, ends: str | None = None) -> tuple[Key, Namespace]:
    metadata = Metadata(name=name, labels={"istio.io/dataplane-mode": mode}, deletion_timestamp=ends)
    return Key("Namespace", "", name), Namespace(metadata)


def unlabelled() -> tuple[Key, Pod]:
    metadata = Metadata(name="a", namespace="shop", uid="1")
    return Key("Pod", "shop", "a"), Pod(metadata, PodSpec(node_name="node1", service_account_name="web"))


def test_a_pod_is_in_the_mesh_with_its_namespace_whatever_is_told_first() -> None:
    shop = ("node1", "shop", "web")
    for order in (1, -1):
        placement = Placement()
        placement.apply([unlabelled(), namespace("shop", "ambient")][::order])
        assert placement.runs(*shop)
        placement.apply([namespace("shop", "none")])
        assert not placement.runs(*shop)
        placement.apply([namespace("shop", "ambient")])
        placement.apply([(Key("Namespace", "", "shop"), None)])
        assert not placement.runs(*shop)


def test_what_is_known_of_a_pod_is_there_while_it_runs() -> None:
    placement = Placement()
    placement.apply([unlabelled()])
    found = placement.pod("shop", "a")
    assert found
    assert (found.uid, found.node, found.service_account) == ("1", "node1", "web")
    placement.apply([(Key("Pod", "shop", "a"), None)])
    assert placement.pod("shop", "a") is None


def test_namespaces_count_until_they_are_about_to_go() -> None:
    placement = Placement()
    placement.apply([namespace("a", ""), namespace("b", ""), namespace("c", "")])
    placement.apply([(Key("Namespace", "", "a"), None)])
    placement.apply([namespace("b", "", ends="2026-01-01T00:00:00Z")])
    assert placement.namespaces == {"c"}
