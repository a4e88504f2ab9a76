"""Peers that say nothing: they are given up in the end."""

from tests.peers.stage import HBONE, PORT, Stage, is_reset

LIMIT = 12  # seconds, for a handshake; the clock is a second coarse


def test_silence_within_the_handshake(stage: Stage) -> None:
    """A client and a server at once, since it takes its time."""
    with (
        stage.listen(stage.peer, HBONE),  # and never accepts
        stage.refusal("destination", "handshake_timeout", handshake=True, within=LIMIT),
        stage.refusal("source", "handshake_timeout", handshake=True, within=LIMIT),
        stage.connect() as client,
        stage.dial(PORT) as app,
    ):
        client.settimeout(LIMIT)
        app.settimeout(LIMIT)
        assert client.recv(1) == b""
        assert is_reset(app)
