"""Who is not allowed is refused in the way of his protocol, whoever wrote his end of it, and counted."""

import socket
from collections.abc import Iterator

import pytest

from protocols.security_pb2 import Action, Address, Match, Scope, StringMatch
from tests.peers.exchange import greet
from tests.peers.stage import OURS, PEER, PORT, Stage, address, is_refused, is_reset, policy
from tests.support.envoy import Envoy, Way
from tests.support.http2 import Http2
from tests.support.wait import until

OTHER = PORT + 1
ANYBODY = Match(destination_ports=[PORT])
PRESENT = StringMatch(presence={})
PLAIN = Match(not_principals=[PRESENT])
BY_IDENTITY = Match(principals=[StringMatch(exact=PEER.removeprefix("spiffe://"))])
DENIED = ("demo/p", "denied")


def verdicts(stage: Stage, name: str, verdict: str) -> int:
    return stage.counted("warren_policy_verdicts").get(f'policy="{name}",verdict="{verdict}"', 0)


@pytest.fixture
def other(stage: Stage) -> Iterator[socket.socket]:
    """Another server in our pod."""
    with stage.listen(stage.ours, OTHER) as listener:
        yield listener


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("match", [ANYBODY, BY_IDENTITY, "address"], ids=["port", "identity", "address"])
def test_a_request_that_is_denied_is_answered_401(stage: Stage, match: Match | str, version: int) -> None:
    ours, theirs = address(stage.ours, version), address(stage.peer, version)
    if isinstance(match, str):
        match = Match(source_ips=[Address(address=theirs.packed, length=theirs.max_prefixlen)])
    before = verdicts(stage, *DENIED)
    with (
        stage.policy(match) as name,
        stage.refusal("destination", "policy_denied") as line,
        stage.client(version) as tunnel,
    ):
        tunnel.greet()
        host = f"[{ours}]" if version == 6 else ours
        assert tunnel.status(tunnel.connect(f"{host}:{PORT}")) == 401
        assert tunnel.alive(), "the tunnel goes on"
    assert line["error"] == f"explicitly denied by policy: {name}"
    assert line["response_flags"] == "DENY"
    assert line["src.identity"] == PEER
    assert verdicts(stage, *DENIED) == before + 1


def test_a_request_that_no_policy_allows_is_answered_401(stage: Stage, tunnel: Http2) -> None:
    with (
        stage.policy(Match(destination_ports=[OTHER]), Action.ALLOW),
        stage.refusal("destination", "policy_not_allowed") as line,
    ):
        assert tunnel.status(tunnel.connect(f"{stage.ours.v4}:{PORT}")) == 401
    assert line["response_flags"] == "DENY"


@pytest.mark.parametrize("version", [4, 6])
def test_plain_text_that_is_denied_is_reset(stage: Stage, application: socket.socket, version: int) -> None:
    """STRICT, as it is told to tunnels."""
    to = (str(address(stage.ours, version)), PORT)
    with stage.policy(PLAIN) as name:
        with stage.refusal("destination", "policy_denied") as line:
            assert stage.peer.netns.run(lambda: is_refused(to))
        with stage.client() as tunnel:
            tunnel.greet()
            assert tunnel.status(tunnel.connect(f"{stage.ours.v4}:{PORT}")) == 200
    assert line["error"] == f"explicitly denied by policy: {name}"
    assert line["response_flags"] == "DENY"


def test_envoy_is_refused(stage: Stage) -> None:
    """It drops its client; nothing reaches our application."""
    near = ("127.0.0.1", 16050)
    way = Way(near, str(stage.ours.v4), (str(stage.ours.v4), PORT))
    with (
        Envoy.tunnel("denied", stage.peer, stage.folder, me=stage.certificate, peer=OURS, ways=[way]),
        stage.policy(BY_IDENTITY),
        stage.refusal("destination", "policy_denied") as line,
        stage.peer.netns.run(lambda: socket.create_connection(near, 10)) as app,
    ):
        assert app.recv(1) == b""
    assert line["src.identity"] == PEER


@pytest.mark.parametrize("match", [BY_IDENTITY, ANYBODY], ids=["identity", "port"])
def test_streams_that_are_no_longer_allowed_are_reset(
    stage: Stage, tunnel: Http2, application: socket.socket, match: Match
) -> None:
    stream = tunnel.connect(f"{stage.ours.v4}:{PORT}")
    assert tunnel.status(stream) == 200
    far, _ = application.accept()
    with far, stage.refusal("destination", "policy_changed") as line, stage.policy(match) as name:
        assert not tunnel.ended(stream), "it is reset"
        assert is_reset(far)
        assert tunnel.alive()
    assert line["error"].endswith(f"explicitly denied by policy: {name}")
    assert line["response_flags"] == "DENY"


def test_streams_that_are_still_allowed_go_on(
    stage: Stage, tunnel: Http2, application: socket.socket, other: socket.socket
) -> None:
    denied, allowed = (tunnel.connect(f"{stage.ours.v4}:{port}") for port in (PORT, OTHER))
    assert [tunnel.status(stream) for stream in (denied, allowed)] == [200, 200]
    (gone, _), (far, _) = application.accept(), other.accept()
    with gone, far, stage.refusal("destination", "policy_changed"), stage.policy(ANYBODY):
        assert not tunnel.ended(denied)
        tunnel.data(allowed, b"hello")
        assert far.recv(5) == b"hello"


def test_plain_connections_that_are_no_longer_allowed_are_reset(
    stage: Stage, application: socket.socket
) -> None:
    to = (str(stage.ours.v4), PORT)
    with stage.peer.netns.run(lambda: socket.create_connection(to, 10)) as plain:
        far, _ = application.accept()
        with far:
            greet(plain, far)
            with stage.refusal("destination", "policy_changed"), stage.policy(PLAIN):
                assert is_reset(plain)
                assert is_reset(far)


def test_a_policy_that_has_not_arrived_holds_connections(stage: Stage, tunnel: Http2) -> None:
    """Until it has, or for a few seconds: then they are refused."""
    try:
        stage.name_policies(["demo/p"])
        with stage.refusal("destination", "policy_unknown") as line:
            assert tunnel.status(tunnel.connect(f"{stage.ours.v4}:{PORT}")) == 401
        assert line["error"].endswith(": demo/p")
        with stage.listen(stage.ours, PORT), stage.no_policies():
            held = tunnel.connect(f"{stage.ours.v4}:{PORT}")
            assert tunnel.alive(), "the request has been read"
            allow = policy(Match(principals=[PRESENT]), Action.ALLOW)
            allow.scope = Scope.WORKLOAD_SELECTOR
            assert stage.authorize([allow]) == []
            assert tunnel.status(held) == 200
    finally:
        stage.name_policies([])


def test_a_policy_that_is_not_understood_is_refused_and_its_former_version_stays(
    stage: Stage, tunnel: Http2
) -> None:
    bad = policy(Match(destination_ports=[1 << 16]))
    with stage.policy(BY_IDENTITY):
        assert stage.authorize([bad]) == [("demo/p", "port 65536 is out of range")]
        assert tunnel.status(tunnel.connect(f"{stage.ours.v4}:{PORT}")) == 401


def test_a_dry_run_refuses_nobody_and_is_told(
    stage: Stage, tunnel: Http2, application: socket.socket
) -> None:
    trial = policy(BY_IDENTITY)
    trial.dry_run = True
    start, before = stage.log.stat().st_size, verdicts(stage, "demo/p", "dry_run")
    with stage.no_policies():
        assert stage.authorize([trial]) == []
        stream = tunnel.connect(f"{stage.ours.v4}:{PORT}")
        assert tunnel.status(stream) == 200
        assert verdicts(stage, "demo/p", "dry_run") == before + 1
        tunnel.data(stream, b"", end=True)
        application.accept()[0].close()
        assert until(lambda: [line for line in stage.logged(start) if line.get("policy.dry_run") == "demo/p"])
