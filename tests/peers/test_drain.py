"""The tunnel ends in order: peers are told, what is open goes on until its end or the deadline."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from tests.peers.stage import HBONE, PORT, Stage, is_reset
from tests.peers.streams import opened
from tests.support import core
from tests.support.http2 import REFUSED_STREAM, Closed, Http2, exactly


@pytest.fixture
def stage(tmp_path: Path, bpffs: Path) -> Iterator[Stage]:
    """One of its own: its tunnel does not live on."""
    with Stage(tmp_path, bpffs.with_name("drain")) as stage:
        yield stage


def test_open_streams_go_on(stage: Stage, tunnel: Http2) -> None:
    with stage.listen(stage.ours, PORT) as listener, ThreadPoolExecutor(1) as threads:
        stream, far = opened(stage, tunnel, listener)
        with far:
            cut = threads.submit(stage.tunnel.call, core.drain, 10.0)
            goodbye = tunnel.read(GoAwayFrame)
            assert (goodbye.error_code, goodbye.last_stream_id) == (0, stream)
            late = tunnel.connect(f"{stage.ours.v4}:{PORT}")
            assert tunnel.read(RstStreamFrame, late).error_code == REFUSED_STREAM
            with pytest.raises(ConnectionRefusedError):
                stage.peer.netns.run(lambda: socket.create_connection((str(stage.ours.v4), HBONE), 5))
            tunnel.data(stream, b"still", end=True)
            assert exactly(far, 5) == b"still"
        assert tunnel.ended(stream)
        assert cut.result() == 0


def test_the_deadline_cuts(stage: Stage, tunnel: Http2) -> None:
    with stage.listen(stage.ours, PORT) as listener:
        stream, far = opened(stage, tunnel, listener)
        with far, stage.refusal("destination", "drained"):
            assert stage.tunnel.call(core.drain, 0.1) == 1
            with contextlib.suppress(Closed):  # or the stream is reset before that
                assert not tunnel.ended(stream)
            assert is_reset(far)
