"""Who has a revoked certificate is refused by either side; tunnels that are open with it end at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.peers.pair import Pair, Side
from tests.support import core, sockets
from tests.support.wait import until


@contextmanager
def revoked(pair: Pair, by: Side, whose: Side) -> Iterator[None]:
    """Within it one side's list has the other's certificate."""
    by.tunnel.call(core.set_crl, pair.authority.crl(whose.certificate))
    try:
        yield
    finally:
        by.tunnel.call(core.set_crl, None)


def is_reset(pair: Pair, connection: int) -> bool:
    try:
        return pair.client.app.call(sockets.receive, connection, 1) is None
    except ConnectionResetError:
        return True


def is_refused(pair: Pair) -> bool:
    try:
        pair.exchange()
    except ConnectionResetError:
        return True
    return False


def opened(pair: Pair) -> int:
    """A connection that carries bytes."""
    connection = pair.client.app.call(sockets.connect, pair.address)
    pair.client.app.call(sockets.send, connection, b"there")
    assert pair.client.app.call(sockets.receive, connection, 5) == b"there"
    return connection


def lost(side: Side, reporter: str, reason: str) -> int:
    return side.tunnel.counted("warren_tunnels_lost").get(f'reporter="{reporter}",reason="{reason}"', 0)


@pytest.mark.parametrize("by_client", [True, False], ids=["the server's", "the client's"])
def test_certificate_of_an_open_tunnel(pair: Pair, by_client: bool) -> None:
    by, whose = (pair.client, pair.server) if by_client else (pair.server, pair.client)
    reporter, other = ("source", "destination") if by_client else ("destination", "source")
    connection = opened(pair)
    before = lost(by, reporter, "certificate_revoked")
    with (
        by.tunnel.refusal(reporter, "certificate_revoked"),
        whose.tunnel.refusal(other, "certificate_refused") as told,
    ):
        by.tunnel.call(core.set_crl, pair.authority.crl(whose.certificate))
        assert is_reset(pair, connection)
    assert told["error"].endswith("TLS alert certificate_revoked")
    assert lost(by, reporter, "certificate_revoked") == before + 1
    with by.tunnel.refusal(reporter, "certificate_revoked", handshake=True):
        assert is_refused(pair)
    by.tunnel.call(core.set_crl, None)
    pair.exchange()


def test_the_flag_is_istios(pair: Pair) -> None:
    flag = 'response_flags="CERT_REVOKED"'
    with revoked(pair, pair.client, pair.server):
        assert is_refused(pair)
        failed = pair.client.tunnel.counted("istio_tcp_connections_failed")
    assert any(flag in labels for labels in failed)


def test_others_go_on(pair: Pair) -> None:
    """A list of the same authority without this certificate disturbs nothing."""
    connection = opened(pair)
    pair.client.tunnel.call(core.set_crl, pair.authority.crl(pair.client.certificate))
    pair.client.app.call(sockets.send, connection, b"still")
    assert pair.client.app.call(sockets.receive, connection, 5) == b"still"
    pair.exchange()
    pair.client.tunnel.call(core.set_crl, None)


def test_an_idle_tunnel_ends_too(pair: Pair) -> None:
    pair.exchange()
    before = lost(pair.server, "destination", "certificate_revoked")
    with revoked(pair, pair.server, pair.client):
        until(lambda: lost(pair.server, "destination", "certificate_revoked") > before, what="it is cut")
