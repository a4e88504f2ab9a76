"""The objects of one kind, without a server: decoded, refused by name, and what changes nothing."""

import json
import sys
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from agent.kube.listwatch import Event, Gone, Listed, Name, Put
from agent.model.engine.refusal import said
from agent.model.kinds import KINDS, NOT_ACTED_ON
from agent.model.schema.istio.policy import Policy
from agent.model.schema.kubernetes import EndpointSlice, Pod
from agent.model.schema.objects import Key
from agent.sources.kind_cache import CONDITION, KindCache, Told, Verdict
from agent.sources.manifests import parse

NAME = Name("ns", "a")


def put(name: str = "a", **more: Any) -> Event:
    metadata = {"name": name, "namespace": "ns", **more.pop("metadata", {})}
    return Put(Name("ns", name), Raw(json.dumps({"metadata": metadata, **more}).encode()))


def pods(*events: Event) -> KindCache:
    cache = KindCache(KINDS["Pod"])
    list(cache.take(events))
    return cache


def test_objects_come_change_and_go() -> None:
    cache = pods()
    [(key, item)] = cache.take([put(status={"podIP": "10.0.0.1"})])
    assert key == Key("Pod", "ns", "a")
    assert isinstance(item, Pod) and [str(ip) for ip in item.addresses] == ["10.0.0.1"]
    assert len([*cache.take([put(status={"podIP": "10.0.0.2"}), Listed()])]) == 1
    assert cache.listed
    assert [*cache.take([Gone(NAME), Gone(NAME)])] == [(key, None)]


def test_what_we_do_not_read_changes_nothing() -> None:
    cache = pods(put())
    more = {"resourceVersion": "2", "managedFields": [{"manager": "x"}]}
    assert not [*cache.take([put(metadata=more, status={"message": "hm"})])]


def test_what_is_listed_again_is_held_once() -> None:
    """The model keeps the first: a list each few hours must not double what a large cluster takes."""
    cache = KindCache(KINDS["Pod"])
    [(_, item)] = cache.take([put()])
    held = sys.getrefcount(item)
    assert not [*cache.take([put(), put()])]
    assert sys.getrefcount(item) == held


def test_a_name_is_one_string() -> None:
    """Of the list, the key and the object: else a name of a pod is held three times."""
    event = put()
    [(key, item)] = KindCache(KINDS["Pod"]).take([event])
    assert isinstance(event, Put) and item
    assert item.metadata.name is key.name is event.name.name


def test_a_null_is_a_field_that_is_not_there() -> None:
    cache = KindCache(KINDS["EndpointSlice"])
    [(_, item)] = cache.take([put(addressType="IPv4", endpoints=None, ports=None)])
    assert isinstance(item, EndpointSlice)
    assert not cache.verdicts


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"status": {"podIP": 5}}, "status.podIP: this is a string: put it in quotes (found 5)"),
        ({"status": {"podIP": "x"}}, "status: 'x' does not appear to be an IPv4 or IPv6 address"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "metadata.labels.a: this is a string: put it in quotes (found 1)",
        ),
        (
            {"metadata": {"name": "käfer"}},
            "metadata.name: a name has lower case letters, digits, - and . only (found 'käfer')",
        ),
    ],
)
def test_the_reason_is_that_of_a_folder(more: Any, reason: str) -> None:
    cache = pods(put(**more))
    assert cache.verdicts == {NAME: Verdict("Invalid", reason, 0)}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", **more.pop("metadata", {})},
        **more,
    }
    [problem] = parse(json.dumps(manifest).encode()).problems
    assert problem.reason == reason


def test_one_bad_object_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    cache = pods()
    text = b'{"metadata":{"name":"b","labels":{"x":"\xff"}}}'
    changes = [
        *cache.take([put(spec=[]), Put(Name("ns", "b"), Raw(text)), Put(Name("", ""), Raw(b"7")), put("c")])
    ]
    assert [key.name for key, _ in changes] == ["c"]
    assert cache.verdicts.keys() == {NAME, Name("ns", "b"), Name("", "")}
    assert "rejected Pod ns/a: spec: Expected object, got array" in caplog.text


def test_an_object_that_nests_too_deeply() -> None:
    text = b'{"metadata":{"name":"a","generation":3},"spec":' + b"[" * 5000 + b"]" * 5000 + b"}"
    cache = pods(Put(NAME, Raw(text)))
    assert cache.verdicts == {NAME: Verdict("Invalid", "it nests too deeply", 0)}


def test_the_last_good_version_stays(caplog: pytest.LogCaptureFixture) -> None:
    cache = pods(put())
    bad = put(metadata={"generation": 4, "labels": 1})
    assert not [*cache.take([bad, bad])]
    assert cache.verdicts[NAME].generation == 4
    assert caplog.text.count("; a good version stays in force") == 1
    assert [key.name for key, item in cache.take([Gone(NAME)]) if item is None] == ["a"]
    assert not cache.verdicts


def test_mended() -> None:
    cache = pods(put(status={"podIP": 1}))
    assert len([*cache.take([put()])]) == 1
    assert not cache.verdicts


def test_what_our_condition_says_is_known() -> None:
    noticed: list[Key] = []
    cache = KindCache(KINDS["Pod"], noticed.append)
    ours = {
        "type": CONDITION,
        "status": "False",
        "reason": "Invalid",
        "message": "m",
        "observedGeneration": 2,
    }
    told = put(metadata={"generation": 3}, status={"conditions": [{"type": "Ready"}, ours]})
    list(cache.take([told, told]))
    assert cache.told == {NAME: Told("Invalid", "m", 2, 3)}
    list(cache.take([put()]))
    assert not cache.told
    assert noticed == [Key("Pod", *NAME)] * 2, "what is told again as it was is not noticed"


@pytest.mark.parametrize("status", [{"conditions": None}, {"conditions": CONDITION}, CONDITION, None])
def test_a_status_that_cannot_be_read_says_nothing(status: object) -> None:
    cache = KindCache(NOT_ACTED_ON["EnvoyFilter"])
    list(cache.take([put(metadata={"generation": 2, "annotations": {"a": CONDITION}}, status=status)]))
    assert not cache.told
    assert cache.verdicts[NAME].generation == 2


@pytest.mark.parametrize("kind", NOT_ACTED_ON)
def test_a_kind_that_is_not_acted_on(kind: str) -> None:
    cache, spec = (
        KindCache(NOT_ACTED_ON[kind]),
        {"selector": {"matchLabels": {}}, "url": "u", "phase": "AUTHZ"},
    )
    assert not [*cache.take([put(metadata={"generation": 2}, spec=spec)])]
    [verdict] = cache.verdicts.values()
    assert (verdict.reason, verdict.generation) == ("NotEnforced", 2)
    assert verdict.message.endswith("the object has no effect: spec.phase, spec.url")


def test_all_are_gone() -> None:
    cache = pods(put(), put("b", spec=[]))
    assert [*cache.clear()] == [(Key("Pod", "ns", "a"), None)]
    assert not cache.verdicts


RULES = {"action": "DENY", "rules": [{"when": [{"key": "source.tomorrow", "values": ["x"]}]}]}
REASON = "spec.rules[0].when[0].key: 'source.tomorrow' is no attribute; see Istio's list of conditions"


def policies() -> KindCache:
    return KindCache(KINDS["AuthorizationPolicy"])


def test_a_refused_policy_holds_strictly_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cache = policies()
    [(key, item)] = cache.take([put(spec=RULES, metadata={"generation": 3})])
    assert key == Key("AuthorizationPolicy", "ns", "a")
    assert isinstance(item, Policy) and item.strictest
    assert cache.verdicts == {NAME: Verdict("Invalid", f"{REASON}; nobody is let in", 3)}
    assert caplog.text.count(f"rejected AuthorizationPolicy ns/a: {REASON}; nobody is let in\n") == 1
    assert not [*cache.take([put(spec=RULES, metadata={"generation": 3})])], "the same again changes nothing"
    [(_, mended)] = cache.take([put(spec={})])
    assert isinstance(mended, Policy) and not mended.refusal
    assert not cache.verdicts


def test_the_last_good_version_of_a_policy_says_why_it_stays(caplog: pytest.LogCaptureFixture) -> None:
    cache = policies()
    [(_, good)] = cache.take([put(spec={})])
    [(_, item)] = cache.take([put(spec=RULES)])
    assert isinstance(item, Policy) and item.refusal and not item.strictest
    assert replace(item, refusal=None) == good
    text = f"{REASON}; a good version stays in force"
    assert cache.verdicts == {NAME: Verdict("Invalid", text, 0)}
    assert caplog.text.count("a good version stays in force") == 1
    [(_, again)] = cache.take([put(spec={"x": 1})])
    assert (
        isinstance(again, Policy)
        and again.refusal
        and again.refusal.reason.startswith("spec: unknown field x")
    )
    assert [*cache.take([Gone(NAME)])] == [(Key("AuthorizationPolicy", "ns", "a"), None)]
    [(_, strict)] = cache.take([put(spec=RULES)])
    assert isinstance(strict, Policy) and strict.strictest, "what is gone has no last version"


@pytest.mark.parametrize(
    "text",
    [
        b'{"metadata":{"name":"a"},"spec":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"metadata":{"name":"a"},"spec":"\xff"}',
        b"{",
    ],
)
def test_of_what_cannot_be_read_nobody_is_let_in(text: bytes) -> None:
    cache = policies()
    [(_, item)] = cache.take([Put(NAME, Raw(text))])
    assert isinstance(item, Policy) and said(item).endswith("): nobody is let in")
    assert not [*cache.take([Put(Name("", ""), Raw(text))])], "of nobody's name"
