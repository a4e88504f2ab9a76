"""A tunnel of ours refuses another of ours: both say why, at once, and the right peer is served at once.

What OpenSSL does in a refusal is in test_refusals.py. Two of ours send more in one piece: what follows a
certificate that is refused has arrived with it.
"""

import time
from datetime import timedelta

import pytest

from tests.peers.pair import Face, Pair
from tests.support.certificates import CLIENTS, EXPIRED, SERVERS, Authority, Terms
from tests.support.wait import until

NOT_YET = Terms(begins=timedelta(minutes=30))
AT_ONCE = 4.5  # seconds: a time-out of any kind is 5 at least


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A root that nobody here knows."""
    return Authority(tmp_path_factory.mktemp("strangers"), "example.com")


@pytest.fixture(scope="module")
def namesakes(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another root of the name of ours, as of a mesh that was installed anew."""
    return Authority(tmp_path_factory.mktemp("namesakes"))


def is_reset_at_once(pair: Pair) -> bool:
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        pair.exchange()
    return time.monotonic() - began < AT_ONCE


def works(pair: Pair) -> bool:
    try:
        pair.exchange()
    except ConnectionResetError:
        return False
    return True


# What is wrong with a certificate, the reason, and the alert that its owner's log names.
REFUSED = {
    "expired": ("certificate_expired", "certificate_expired"),
    "not yet valid": ("certificate_not_yet_valid", "certificate_expired"),
    "an unknown root": ("untrusted_certificate", "unknown_ca"),
    "another root of that name": ("untrusted_certificate", "decrypt_error"),
    "another use": ("certificate_purpose", "unsupported_certificate"),
}


@pytest.fixture
def faces(strangers: Authority, namesakes: Authority) -> dict[str, Face]:
    """The wrong ones."""
    return {
        "expired": Face(terms=EXPIRED),
        "not yet valid": Face(terms=NOT_YET),
        "an unknown root": Face(by=strangers),
        "another root of that name": Face(by=namesakes),
    }


def server_is_refused(pair: Pair, face: Face, reason: str, alert: str) -> None:
    with (
        pair.faces(server=face),
        pair.client.tunnel.refusal("source", reason, handshake=True) as ours,
        pair.server.tunnel.refusal("destination", "certificate_refused", handshake=True) as theirs,
    ):
        assert is_reset_at_once(pair)
    assert ours["dst.workload"] == "server"
    assert theirs["error"].endswith(f"TLS alert {alert}")
    pair.exchange()


def client_is_refused(pair: Pair, face: Face, reason: str, alert: str) -> None:
    with (
        pair.faces(client=face),
        pair.client.tunnel.refusal("source", "certificate_refused") as ours,
        pair.server.tunnel.refusal("destination", reason, handshake=True),
    ):
        assert is_reset_at_once(pair)
    assert ours["error"].endswith(f"TLS alert {alert}")
    pair.exchange()


@pytest.mark.parametrize("what", REFUSED)
def test_a_server_is_refused(pair: Pair, faces: dict[str, Face], what: str) -> None:
    wrong = faces.get(what, Face(terms=Terms(usage=(CLIENTS,))))
    server_is_refused(pair, wrong, *REFUSED[what])


@pytest.mark.parametrize("what", REFUSED)
def test_a_client_is_refused(pair: Pair, faces: dict[str, Face], what: str) -> None:
    wrong = faces.get(what, Face(terms=Terms(usage=(SERVERS,))))
    client_is_refused(pair, wrong, *REFUSED[what])


@pytest.mark.parametrize("wrong", [Face(account="other"), Face(domain="example.com")], ids=str)
def test_a_server_that_is_another(pair: Pair, wrong: Face) -> None:
    """As at an address that another pod has taken over, of which the client's node has not heard."""
    server_is_refused(pair, wrong, "peer_identity", "certificate_unknown")


def test_a_client_of_another_trust_domain(pair: Pair) -> None:
    client_is_refused(pair, Face(domain="example.com"), "peer_trust_domain", "certificate_unknown")


def test_many_connections_to_a_server_that_is_another(pair: Pair) -> None:
    """Each is answered at once, and few cost a handshake. The right server is found a moment later."""
    failed = 'reporter="source",reason="peer_identity"'
    with pair.faces(server=Face(account="other")):
        before = pair.client.tunnel.counted("warren_handshakes").get(failed, 0)
        began = time.monotonic()
        for _ in range(200):
            with pytest.raises(ConnectionResetError):
                pair.exchange()
        lasted = time.monotonic() - began
        handshakes = pair.client.tunnel.counted("warren_handshakes")[failed] - before
    assert handshakes <= 5 * (1 + lasted / 0.25)
    until(lambda: works(pair), AT_ONCE, "the right server is found")
