"""Questions to the tunnel of this node, at its admin port."""

from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from agent.errors import SettingsError, WarrenError

TUNNEL = "http://127.0.0.1:15000"
_ANSWER = 30.0  # seconds
_direct = build_opener(ProxyHandler({}))


class NoTunnel(WarrenError):
    """Nobody answers, or not as our tunnel does."""

    exit_code = 2


def ask(tunnel: str, path: str, query: Mapping[str, object] | None = None, given: bytes | None = None) -> Any:
    """What the tunnel at this URL answers, of JSON.

    Raises SettingsError with what it says to a question that has no answer, NoTunnel.
    """
    try:
        request = Request(f"{tunnel}{path}?{urlencode(query or {})}", given)
        with _direct.open(request, timeout=_ANSWER) as answer:
            return msgspec.json.decode(answer.read())
    except HTTPError as error:
        with error:
            if error.code == 400:
                raise SettingsError(error.read().decode(errors="replace").strip()) from error
        raise NoTunnel(f"what answers at {tunnel} is no tunnel of this version: {error}") from error
    except (OSError, ValueError, HTTPException, msgspec.MsgspecError) as error:
        reason = getattr(error, "reason", None) or error
        raise NoTunnel(f"no tunnel answers at {tunnel}: {reason}; --tunnel names its admin port") from error
