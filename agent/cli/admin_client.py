"""Questions to agent and tunnel of this node: by HTTP, the agent's at the sockets in its run folder."""

import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from agent.errors import SettingsError, WarrenError

T = TypeVar("T")

TUNNEL = "http://127.0.0.1:15000"
_ANSWER = 30.0  # seconds
_SOCKETS = ("admin.sock", "read.sock")  # root's, and that of --admin-group


class NoTunnel(WarrenError):
    """Nobody answers, or not as our tunnel does."""

    exit_code = 2


class NoAgent(WarrenError):
    """Nobody answers, or not as our agent does."""

    exit_code = 2


class Unanswered(WarrenError):
    """Why there is no answer. stranger: something answers, and not as ours does."""

    def __init__(self, reason: str, stranger: bool) -> None:
        super().__init__(reason)
        self.stranger = stranger


class _Refused(Exception):
    """The answer to a question that is wrong, in its own words."""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def fetch(url: str, kind: type[T], within: float) -> T:
    """What is answered at a URL within so many seconds, of JSON. Raises Unanswered."""
    try:
        return _talk(_connection(url, within), urlsplit(url).path, kind, None)
    except _Refused as error:
        raise Unanswered(str(error), stranger=True) from error
    except (OSError, ValueError, HTTPException) as error:
        raise Unanswered(_reason(error), stranger=False) from error


def ask(
    tunnel: str,
    path: str,
    kind: type[T],
    query: Mapping[str, object] | None = None,
    given: bytes | None = None,
) -> T:
    """What the tunnel at this URL answers, of JSON; types are those of `protocols.admin`.

    Raises SettingsError with what it says to a question that has no answer, NoTunnel.
    """
    try:
        return _talk(_connection(tunnel, _ANSWER), _target(path, query), kind, given)
    except _Refused as error:
        raise SettingsError(str(error)) from error
    except Unanswered as error:
        raise NoTunnel(f"what answers at {tunnel} is no tunnel of this version: {error}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise NoTunnel(
            f"no tunnel answers at {tunnel}: {_reason(error)}; --tunnel names its admin port"
        ) from error


def ask_agent(
    run_dir: Path,
    path: str,
    kind: type[T],
    query: Mapping[str, object] | None = None,
    given: bytes | None = None,
) -> T:
    """What the agent of this folder answers, of JSON; types are those of `protocols.agent`.

    Raises SettingsError with what it says to a question that has no answer, NoAgent.
    """
    try:
        for name in _SOCKETS:
            try:
                connection = _UnixConnection(run_dir / name, _ANSWER)
                return _talk(connection, _target(path, query), kind, given)
            except PermissionError:
                if name == _SOCKETS[-1]:
                    raise
        raise AssertionError
    except _Refused as error:
        raise SettingsError(str(error)) from error
    except Unanswered as error:
        raise NoAgent(f"what answers in {run_dir} is no agent of this version: {error}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise NoAgent(
            f"no agent answers in {run_dir}: {_reason(error)}; --run-dir names its folder"
        ) from error


def _connection(url: str, timeout: float) -> HTTPConnection:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"unknown url type: {url!r}, write http://HOST:PORT")
    return HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def _target(path: str, query: Mapping[str, object] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _talk(connection: HTTPConnection, target: str, kind: type[T], given: bytes | None) -> T:
    """Raises _Refused, Unanswered, OSError, HTTPException."""
    try:
        connection.request("GET" if given is None else "POST", target, given)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status == 400:
        raise _Refused(body.decode(errors="replace").strip())
    if response.status != 200:
        raise Unanswered(f"HTTP Error {response.status}: {response.reason}", stranger=True)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unanswered(str(error), stranger=True) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
