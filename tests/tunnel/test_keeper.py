"""The keeper of a node's listeners: it gives them to who may have them."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from protocols.report import Generation, Stage
from tests.support.wait import until
from tunnel.handover import Places

KEEPER = """
import signal, sys
from pathlib import Path
from tunnel.handover import Places
from tunnel.keeper import Keeper
Keeper(Places(Path(sys.argv[1])), lambda number: signal.pause()).run()
"""
# As a user, says hello; prints what it hears, which is nothing when it is sent away.
HELLO = """
import contextlib, os, socket, sys
os.setuid(int(sys.argv[1]))
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[2])
with contextlib.suppress(BrokenPipeError, ConnectionResetError):
    connection.send(sys.argv[3].encode())
    print(connection.recv(100).decode())
"""


@pytest.fixture
def places() -> Iterator[Places]:
    """Of a keeper that runs, in a folder that anybody can enter."""
    with tempfile.TemporaryDirectory(prefix="wt-keeper-") as directory:
        (folder := Path(directory)).chmod(0o755)
        with subprocess.Popen([sys.executable, "-c", KEEPER, directory]) as keeper:
            try:
                until((made := Places(folder)).socket.exists)
                yield made
            finally:
                keeper.terminate()


def hello(places: Places, user: int) -> str:
    me = Generation(7, 1, "1", Stage.RETIRED, 0)
    said = json.dumps({"is": "hello", **asdict(me)})
    command = [sys.executable, "-c", HELLO, str(user), str(places.socket), said]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_only_processes_of_the_same_user_are_heard(places: Places) -> None:
    assert places.socket.stat().st_mode & 0o777 == 0o600
    places.socket.chmod(0o666)  # no obstacle now: it is the kernel's word on the peer that counts
    assert json.loads(hello(places, 0)) == {"is": "output"}
    assert hello(places, 65534) == ""
