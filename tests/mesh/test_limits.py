"""RateLimitPolicy, and AuthorizationPolicies with the action CUSTOM: who else has a say about requests."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.lab import Lab
from agent.model.schema.objects import Key
from tests.mesh.conftest import Manifest, Mesh, is_current
from tests.mesh.test_authz import authz
from tests.support import asking, deciders, sockets
from tests.support.resident import Resident
from tests.support.wait import until

PODS = Path(__file__).with_name("limits.yaml")
CONFIG = Path(__file__).with_name("limits.meshconfig.yaml")
LIMITER, FIELD_LIMITER, AUTHORIZER, HTTP_AUTHORIZER = 8081, 8082, 9000, 8000
CLIENT = "cluster.local/ns/default/sa/client"
RATELIMIT = os.environ.get("WARREN_RATELIMIT")
RATE = 5  # a second: low enough for a machine that has much else to do
PORT = 7000
SECONDS = int(os.environ.get("WARREN_RATE_SECONDS", "4"))  # of the run that measures rates
OF_SHOP = {"selector": {"matchLabels": {"app": "shop"}}}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with ExitStack() as exits:
        lab = exits.enter_context(Lab.up([PODS], name=f"wt-limits-{os.getpid()}", mesh_config=CONFIG))
        mesh = Mesh(lab, {})
        exits.callback(mesh.close)
        mesh.inside("decider").call(deciders.serve_limiter, LIMITER)
        mesh.inside("decider").call(deciders.serve_authorizer, AUTHORIZER, HTTP_AUTHORIZER)
        yield mesh


@pytest.fixture(scope="module")
def port(mesh: Mesh) -> int:
    """Of a server that speaks no HTTP, in the pod of the shop."""
    mesh.inside("shop").call(sockets.serve, PORT)
    return PORT


def limits(*rules: Manifest, name: str = "limits", **spec: Any) -> Manifest:
    return {
        "apiVersion": "policy.warren.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**(spec or OF_SHOP), "rules": [*rules]},
    }


def custom(provider: str, *rules: Manifest) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "custom", "namespace": "default"},
        "spec": {**OF_SHOP, "action": "CUSTOM", "provider": {"name": provider}, "rules": [*rules] or [{}]},
    }


def globally(
    limit: Manifest | None = None, mode: str = "Deny", timeout: str = "30s", port: int = LIMITER
) -> Manifest:
    service = {"service": f"decider:{port}", "domain": "shop", "failureMode": mode, "timeout": timeout}
    return {"by": [{"key": "source.principal", "name": "who"}], "limit": limit, "global": service}


@contextmanager
def applied(mesh: Mesh, *manifests: Manifest) -> Iterator[None]:
    """In force at both nodes."""
    mesh.lab.cluster.put(list(manifests))
    try:
        until(lambda: _in_force(mesh) == [len(manifests)] * 2, what="they are known")
        until(lambda: all(map(is_current, mesh.lab.nodes)), what="they are in force")
        yield
    finally:
        for one in manifests:
            mesh.lab.cluster.delete(Key(one["kind"], "default", one["metadata"]["name"]))
        until(lambda: _in_force(mesh) == [0, 0], what="no policy is in force")


def _in_force(mesh: Mesh) -> list[int]:
    dumps = (json.loads(mesh.lab.node(name).fetch(15000, "/config_dump")) for name in ("node1", "node2"))
    return [len(dump["policies"]) for dump in dumps]


def ask(mesh: Mesh, source: str, path: str = "/", pod: str = "shop", **details: Any) -> asking.Answer:
    return mesh.inside(source).call(asking.ask, (mesh.address(pod, 4), 8080), "shop", path, **details)


def why(mesh: Mesh) -> str:
    """What the command says of requests of `far`, on the server's node."""
    return authz(mesh, "explain", "far", "shop", "--port", "8080")[1]


def statuses(mesh: Mesh, source: str, count: int, **details: Any) -> list[int]:
    return [ask(mesh, source, **details).status for _ in range(count)]


def test_a_local_limit_for_each_identity(mesh: Mesh) -> None:
    """At the server, from both nodes: an identity has one bucket there, whichever pod of it asks."""
    by = {"by": [{"key": "source.principal"}], "limit": {"requests": 4, "per": "hour"}}
    with applied(mesh, limits(by)):
        first = ask(mesh, "far")
        assert (first.status, first.headers["x-ratelimit-limit"]) == (200, "4, 4;w=3600")
        assert first.headers["x-ratelimit-remaining"] == "3"
        assert statuses(mesh, "near", 3) == [200] * 3
        for source in ("near", "far"):
            over = ask(mesh, source)
            assert (over.status, over.body) == (429, b"local_rate_limited")
            assert over.headers["x-envoy-ratelimited"] == "true"
            assert over.headers["x-ratelimit-remaining"] == "0"
            assert 890 < int(over.headers["retry-after"]) <= 900
            assert 3590 < int(over.headers["x-ratelimit-reset"]) <= 3600
        assert statuses(mesh, "other", 5) == [200] * 4 + [429]
        grpc = ask(mesh, "far", method="POST", headers={"content-type": "application/grpc"})
        assert (grpc.status, grpc.headers["grpc-status"]) == (200, "8")
        assert "RateLimitPolicy default/limits counts it: rules[0]" in why(mesh)
        flows = json.loads(mesh.lab.node("node1").fetch(15000, "/flows"))
        told = next(one for one in flows["flows"] if one.get("response_flags") == "RL")
        assert (told["reason"], told["response_code"]) == ("RateLimitPolicy default/limits, rules[0]", 429)


def test_rules_match_as_those_of_authorization_policies(mesh: Mesh) -> None:
    two = {"requests": 2, "per": "hour"}
    writes = {"to": [{"operation": {"methods": ["POST"], "paths": ["/items/{*}"]}}], "limit": two}
    users = {
        "when": [{"key": "request.headers[x-user]", "values": ["*"]}],
        "by": [{"key": "request.headers[x-user]"}, {"key": "request.path"}],
        "limit": two,
    }
    with applied(mesh, limits(writes, users)):
        assert statuses(mesh, "far", 4) == [200] * 4
        assert statuses(mesh, "far", 3, method="POST", path="/items/1") == [200, 200, 429]
        assert statuses(mesh, "far", 1, method="POST", path="/x/../items/%31") == [429]
        assert statuses(mesh, "far", 3, method="POST", path="/items") == [200] * 3
        for user, path in (("a", "/"), ("b", "/"), ("a", "/other")):
            assert statuses(mesh, "far", 3, path=path, headers={"x-user": user}) == [200, 200, 429]


def test_a_policy_that_is_refused_stays_in_force_as_it_was(mesh: Mesh) -> None:
    good = limits({"limit": {"requests": 1, "per": "hour"}})
    with applied(mesh, good):
        assert statuses(mesh, "far", 2) == [200, 429]
        mesh.lab.cluster.put([limits({"limit": {"requests": 0, "per": "hour"}})])
        rejected = "RateLimitPolicy default/limits: spec.rules[0].limit.requests: "
        log = mesh.lab.node("node1").log("agent")
        until(lambda: rejected in log.read_text(), what="the agent says it")
        assert "a good version stays in force" in log.read_text().partition(rejected)[2].splitlines()[0]
        assert statuses(mesh, "far", 1) == [429]


def test_connections_are_limited_for_each_identity(mesh: Mesh, port: int) -> None:
    """Also those that would need no tunnel; what is beyond the limit is refused, and says why."""
    to = (mesh.address("shop", 4), port)
    near, far, other = (mesh.inside(name) for name in ("near", "far", "other"))
    assert not near.call(sockets.is_turned_away, to), "and further ones are direct"
    with applied(mesh, limits({"by": [{"key": "source.principal"}], "connections": {"concurrent": 2}})):
        opened = far.call(sockets.connect_many, to, 2)
        try:
            until(lambda: near.call(sockets.is_turned_away, to), what="there are as many as may be")
            assert far.call(sockets.is_turned_away, to)
            assert not other.call(sockets.is_turned_away, to), "another identity"
            flows = json.loads(mesh.lab.node("node1").fetch(15000, "/flows"))["flows"]
            told = [one for one in flows if one.get("reason") == "too_many_connections"]
            assert told and told[0]["error"].endswith("RateLimitPolicy default/limits, rules[0]")
            assert 'verdict="connection_limited"' in mesh.lab.node("node1").fetch(15020, "/metrics")
        finally:
            for number in opened:
                far.call(sockets.close, number)
        until(lambda: not near.call(sockets.is_turned_away, to), what="there is room again")
    assert not near.call(sockets.is_turned_away, to)


def test_new_connections_are_limited(mesh: Mesh, port: int) -> None:
    to = (mesh.address("shop", 4), port)
    with applied(mesh, limits({"connections": {"new": 2, "per": "hour"}})):
        asked = [mesh.inside(source).call(sockets.is_turned_away, to) for source in ("far", "other", "far")]
        assert asked == [False, False, True]


def test_a_global_limit_holds_for_two_tunnels(mesh: Mesh) -> None:
    with applied(mesh, limits(globally({"requests": 10, "per": "hour"}))):
        answers = [ask(mesh, "far", pod=pod) for _ in range(6) for pod in ("shop", "shop2")]
        assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
        assert answers[0].headers["x-limiter"] == "shop"
        assert answers[0].headers["x-ratelimit-limit"] == "10, 10;w=3600"
        assert int(answers[-1].headers["retry-after"]) <= 3600
        assert statuses(mesh, "other", 1) == [200], "another identity"
        counted = mesh.inside("decider").call(deciders.counted)
        assert counted == {f"shop|who={CLIENT}": 12, "shop|who=cluster.local/ns/default/sa/default": 1}


@pytest.mark.parametrize(("mode", "expected"), [("Allow", 200), ("Deny", 500)])
def test_without_an_answer_the_mode_holds(mesh: Mesh, mode: str, expected: int) -> None:
    rule = globally({"requests": 10, "per": "hour"}, mode, timeout="300ms", port=AUTHORIZER)
    with applied(mesh, limits(rule)):
        assert ask(mesh, "far").status == expected, "a service that is no limiter"
    silent = globally({"requests": 10, "per": "hour"}, mode, timeout="300ms", port=HTTP_AUTHORIZER)
    with applied(mesh, limits(silent)):
        began = time.monotonic()
        assert ask(mesh, "far").status == expected, "a service that does not speak HTTP/2"
        assert time.monotonic() - began < 2


def test_rates_hold_at_five_times_the_limit(mesh: Mesh) -> None:
    """Within 2 %, for each kind of descriptor, and for a limit that two tunnels have in common."""
    each = {"limit": {"requests": RATE, "per": "second"}}
    rules = [
        {**of_path("/principal"), "by": [{"key": "source.principal"}], **each},
        {**of_path("/header"), "by": [{"key": "request.headers[x-user]"}], **each},
        {**of_path("/path/*"), "by": [{"key": "request.path"}], **each},
        {**of_path("/all"), **each},
        {**of_path("/global"), **globally({"requests": RATE, "per": "second"})},
    ]
    asked = [
        ("near", "shop", "/principal", {}),
        ("far", "shop", "/header", {"x-user": "a"}),
        ("far", "shop", "/path/a", {}),
        ("other", "shop", "/all", {}),
        ("near", "shop", "/global", {}),
        ("far", "shop2", "/global", {}),
    ]
    with applied(mesh, limits(*rules)):
        *each_alone, one, other = paced(mesh, asked)
    for counts, begun_with in (*((counts, RATE) for counts in each_alone), (one + other, 0)):
        holds(counts, begun_with)


def holds(counts: Counter[int], begun_with: int) -> None:
    """Never more; a machine that is busy asks for less than it should within a few seconds."""
    assert set(counts) == {200, 429}
    expected, least = begun_with + RATE * SECONDS, 0.98 if SECONDS >= 60 else 0.6
    assert expected * least - 2 <= counts[200] <= expected * 1.02 + 2, counts


def paced(mesh: Mesh, asked: list[tuple[str, str, str, dict[str, str]]]) -> list[Counter[int]]:
    """Statuses of what is asked at once, five times as often as allowed: by whom, whom, path and headers."""
    with ExitStack() as exits:
        pods = [mesh.lab.pod(source) for source, *_ in asked]
        residents = [Resident(pod.cgroup, pod.netns) for pod in pods]
        for resident in residents:
            exits.callback(resident.close)
            resident.call(asking.ask, (mesh.address("shop", 4), 8080), "shop")  # all that takes time once
        # A window of a service that counts begins then as well.
        pace = asking.Pace(begin=int(time.time()) + 2, seconds=SECONDS, rate=5 * RATE)

        def ask_often(resident: Resident, one: tuple[str, str, str, dict[str, str]]) -> Counter[int]:
            _, pod, path, headers = one
            return resident.call(asking.paced, (mesh.address(pod, 4), 8080), "shop", path, headers, pace)

        with ThreadPoolExecutor(len(asked)) as pool:
            return [*pool.map(ask_often, residents, asked)]


@pytest.mark.skipif(not RATELIMIT, reason="WARREN_RATELIMIT names no binary of envoyproxy/ratelimit")
def test_the_fields_own_server_counts_for_two_tunnels(mesh: Mesh, tmp_path: Path) -> None:
    """By the limit that the policy tells it, and by one that it is configured with."""
    decider = mesh.inside("decider")
    decider.call(deciders.serve_field_limiter, str(RATELIMIT), tmp_path, FIELD_LIMITER)
    configured = globally(port=FIELD_LIMITER)
    with applied(mesh, limits(configured)):
        answers = [ask(mesh, "far", pod=pod) for _ in range(4) for pod in ("shop", "shop2")]
        assert [answer.status for answer in answers] == [200] * 7 + [429]
        assert answers[0].headers["x-ratelimit-limit"] == "7, 7;w=86400"
    rule = globally({"requests": RATE, "per": "second"}, port=FIELD_LIMITER)
    with applied(mesh, limits({**of_path("/global"), **rule})):
        one, other = paced(mesh, [("near", "shop", "/global", {}), ("far", "shop2", "/global", {})])
    holds(one + other, 0)


def of_path(path: str) -> Manifest:
    return {"to": [{"operation": {"paths": [path]}}]}


def test_an_authorizer_is_asked_by_grpc(mesh: Mesh) -> None:
    only = {"to": [{"operation": {"paths": ["/guarded*"]}}]}
    with applied(mesh, custom("by-grpc", only)):
        mesh.inside("decider").call(deciders.checked)
        assert ask(mesh, "far", "/free").status == 200
        assert "AuthorizationPolicy default/custom has its provider asked before" in why(mesh)
        assert mesh.inside("decider").call(deciders.checked) == []
        denied = ask(mesh, "far", "/guarded?a=b", headers={"x-ext-authz": "deny"})
        assert (denied.status, denied.body) == (403, b"denied by ext_authz")
        assert denied.headers["x-ext-authz-check-result"] == "denied"
        for source in ("near", "far"):
            headers = {"x-ext-authz": "allow", "x-secret": "s", "x-ext-authz-check-result": "spoofed"}
            allowed = ask(mesh, source, "/guarded", headers=headers)
            seen = {name.lower(): value for name, value in allowed.seen.items()}
            assert (allowed.status, allowed.headers["x-checked"]) == (200, "yes")
            assert (seen["x-ext-authz-check-result"], seen.get("x-secret")) == ("allowed", None)
        first, *_ = mesh.inside("decider").call(deciders.checked)
        assert first["source"] == f"spiffe://{CLIENT}"
        assert first["destination"] == "spiffe://cluster.local/ns/default/sa/shop"
        assert (first["port"], first["method"], first["host"]) == (8080, "GET", "shop")
        assert (first["path"], first["headers"][":path"]) == ("/guarded?a=b", "/guarded?a=b")
        assert first["headers"]["x-ext-authz"] == "deny"


def test_an_authorizer_is_asked_in_http(mesh: Mesh) -> None:
    with applied(mesh, custom("by-http")):
        mesh.inside("decider").call(deciders.asked)
        denied = ask(mesh, "far", "/a?b")
        assert (denied.status, denied.body) == (401, b"denied in HTTP")
        assert denied.headers["x-ext-authz-check-result"] == "denied"
        assert "x-inner" not in denied.headers
        told = {"x-ext-authz": "allow", "x-told-1": "one", "x-untold": "two", "authorization": "Bearer x"}
        allowed = ask(mesh, "far", "/a?b", headers=told)
        seen = {name.lower(): value for name, value in allowed.seen.items()}
        assert (allowed.status, allowed.headers["x-ext-authz-check-result"]) == (200, "allowed")
        assert (seen["x-ext-authz-check-result"], seen.get("x-inner")) == ("allowed", None)
        *_, last = mesh.inside("decider").call(deciders.asked)
        assert (last[":path"], last["host"], last["x-additional"]) == ("/check/a?b", "shop", "here")
        assert (last["x-told-1"], last["authorization"]) == ("one", "Bearer x")
        assert "x-untold" not in last


@pytest.mark.parametrize(("provider", "expected"), [("away", 403), ("silent", 503), ("away-and-open", 200)])
def test_without_an_answer_it_is_refused_unless_the_provider_says_otherwise(
    mesh: Mesh, provider: str, expected: int
) -> None:
    with applied(mesh, custom(provider)):
        began = time.monotonic()
        assert ask(mesh, "far", headers={"x-ext-authz": "allow"}).status == expected
        assert time.monotonic() - began < 2


def test_without_a_provider_nobody_is_let_in(mesh: Mesh) -> None:
    with applied(mesh, custom("unknown")), pytest.raises(OSError):
        ask(mesh, "far", headers={"x-ext-authz": "allow"})
