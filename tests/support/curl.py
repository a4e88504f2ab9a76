"""Requests by curl, a client that others wrote."""

import subprocess
from collections.abc import Sequence
from typing import NamedTuple

_FORMAT = "\n%{http_code} %{http_version} %{redirect_url}"
_TIMEOUT = 20  # seconds


class Answer(NamedTuple):
    """exit: curl's code, 0 for an answer; status 0: there was none; version: 1.1 or 2."""

    exit: int
    status: int
    version: str
    redirect: str
    body: str


def curl(url: str, *options: str, to: int) -> Answer:
    """url: as the client believes; the connection goes to this port of our loopback."""
    way = f"::127.0.0.1:{to}"
    fixed = ("curl", "--silent", "--max-time", str(_TIMEOUT), "--connect-to", way, "--write-out", _FORMAT)
    command: Sequence[str] = [*fixed, *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * _TIMEOUT, check=False)
    body, _, end = done.stdout.rpartition("\n")
    status, version, *redirect = end.split(" ")
    return Answer(done.returncode, int(status), version, "".join(redirect), body)
