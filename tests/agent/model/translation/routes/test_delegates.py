"""Rules that a VirtualService leaves to another one."""

import pytest

from agent.model.schema.objects import Object
from protocols import routes_pb2 as pb
from tests.agent.model.translation.routes.tables import Spec, port, scope, to, virtual_service, web

TO = {"delegate": {"name": "other"}}
PLAIN = {"route": [to("web")]}


def other(*http: Spec, **spec: object) -> Object:
    return virtual_service(*http, name="other", hosts=[], **spec)  # type: ignore[arg-type]


def merged(root: Spec, theirs: Spec) -> list[pb.HttpRule]:
    """What becomes of a rule that delegates, beside a last one that matches everything."""
    items = (web(), virtual_service({**TO, **root}, {"name": "last", **PLAIN}), other({**PLAIN, **theirs}))
    return [one for one in scope(*items).http if one.name != "last"]


EXACT, PREFIX, REGEX = {"exact": "/a/b"}, {"prefix": "/a"}, {"regex": "/a.*"}


@pytest.mark.parametrize(
    ("root", "theirs", "kept"),
    [
        ({}, {}, True),
        ({"uri": PREFIX}, {}, True),
        ({}, {"uri": PREFIX}, True),
        ({"uri": PREFIX}, {"uri": EXACT}, True),
        ({"uri": PREFIX}, {"uri": {"prefix": "/a/b"}}, True),
        ({"uri": PREFIX}, {"uri": {"prefix": "/b"}}, False),
        ({"uri": PREFIX}, {"uri": {"exact": "/b"}}, False),
        ({"uri": {"prefix": "/a/b"}}, {"uri": PREFIX}, False),
        ({"uri": EXACT}, {"uri": EXACT}, True),
        ({"uri": EXACT}, {"uri": PREFIX}, False),
        ({"uri": REGEX}, {"uri": EXACT}, False),
        ({"uri": PREFIX}, {"uri": REGEX}, False),
        ({"uri": REGEX}, {"method": {"exact": "GET"}}, True),
        ({"headers": {"a": {"exact": "1"}}}, {"headers": {"a": {"exact": "2"}}}, False),
        ({"headers": {"a": {"exact": "1"}}}, {"headers": {"b": {"exact": "2"}}}, True),
        ({"withoutHeaders": {"a": {"exact": "1"}}}, {"withoutHeaders": {"a": {"exact": "2"}}}, False),
        ({"queryParams": {"a": {"exact": "1"}}}, {"queryParams": {"a": {"exact": "2"}}}, False),
        ({"port": 80}, {"port": 80}, True),
        ({"port": 80}, {"port": 81}, False),
        ({"sourceNamespace": "a"}, {"sourceNamespace": "a"}, True),
        ({"sourceNamespace": "a"}, {}, False),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}, False),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"b": "2"}}, True),
        ({"gateways": ["mesh"]}, {"gateways": ["mesh", "gw"]}, False),
        ({"gateways": ["mesh", "gw"]}, {"gateways": ["mesh"]}, True),
        ({"ignoreUriCase": True}, {}, False),
    ],
)
def test_a_rule_that_does_not_narrow_the_roots_is_dropped(root: Spec, theirs: Spec, kept: bool) -> None:
    assert bool(merged({"match": [root]}, {"match": [theirs]})) == kept


def test_matches_are_united() -> None:
    root = {"uri": PREFIX, "headers": {"a": {"exact": "1"}}, "sourceLabels": {"x": "1"}}
    theirs = {"uri": EXACT, "headers": {"b": {"exact": "2"}}, "sourceLabels": {"y": "2"}}
    [found] = merged({"match": [root]}, {"match": [theirs]})
    [match] = found.matches
    assert match.path.exact == "/a/b"
    assert {one.name for one in match.headers} == {"a", "b"}
    assert match.source_labels == {"x": "1", "y": "2"}


def test_what_the_delegate_does_not_say_is_the_roots() -> None:
    root = {"name": "root", "timeout": "1s", "rewrite": {"uri": "/r"}}
    [found] = merged(root, {"name": "own", "timeout": "2s"})
    assert found.name == "root-own"
    assert (found.forward.timeout_ms, found.forward.rewrite.prefix) == (2000, "/r")
    assert found.origin == "VirtualService default/other"


def test_names_in_a_delegate_are_of_its_namespace() -> None:
    root = virtual_service({"delegate": {"name": "other", "namespace": "away"}})
    found = scope(web(), web(namespace="away"), root, other(PLAIN, namespace="away"))
    assert found.destinations[0].namespace == "away"


def test_a_delegate_that_is_not_exported_is_none() -> None:
    root = virtual_service({"delegate": {"name": "other", "namespace": "away"}})
    items = (web(), root, other(PLAIN, namespace="away", exportTo=["."]))
    assert port(*items) is None


def test_one_with_hosts_is_no_delegate() -> None:
    assert port(web(), virtual_service(TO), virtual_service(PLAIN, name="other", hosts=["api"])) is None
