from agent.ca.placement import Placement
from agent.model.objects import Key, key_of
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
