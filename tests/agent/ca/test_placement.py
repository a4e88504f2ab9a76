from agent.ca.placement import Placement
from agent.model.objects import Key, Metadata, Namespace, Pod, PodSpec, key_of
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


def test_no_account_is_the_default_one() -> None:
    placement = Placement()
    placement.apply([(Key("Pod", "default", "a"), pod("a", "node1", ""))])
    assert placement.runs("node1", "default", "default")


def test_other_objects_and_unknown_pods_are_no_error() -> None:
    placement = Placement()
    placement.apply([(Key("Node", "", "node1"), None), (Key("Pod", "default", "never"), None)])
    assert not placement.runs("node1", "default", "default")


def namespace(name: str, mode: str, ends: str | None = None) -> tuple[Key, Namespace]:
    metadata = Metadata(name=name, labels={"istio.io/dataplane-mode": mode}, deletion_timestamp=ends)
    return Key("Namespace", "", name), Namespace(metadata)


def unlabelled(**annotations: str) -> tuple[Key, Pod]:
    metadata = Metadata(name="a", namespace="shop", uid="1", annotations=annotations)
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


def test_a_pod_that_another_agent_captured_is_in_the_mesh() -> None:
    placement = Placement()
    placement.apply([unlabelled(**{"ambient.istio.io/redirection": "enabled"})])
    assert placement.runs("node1", "shop", "web")
    placement.apply([unlabelled(**{"ambient.istio.io/redirection": "pending"})])
    assert not placement.runs("node1", "shop", "web")


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
