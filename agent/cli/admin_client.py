"""Questions to agent and tunnel of this node, at the ports where they answer by HTTP."""

from collections.abc import Mapping
from http.client import HTTPException
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from agent.errors import SettingsError, WarrenError

T = TypeVar("T")

TUNNEL = "http://127.0.0.1:15000"
_ANSWER = 30.0  # seconds
_direct = build_opener(ProxyHandler({}))


class NoTunnel(WarrenError):
    """Nobody answers, or not as our tunnel does."""

    exit_code = 2


class Unanswered(WarrenError):
    """Why there is no answer. stranger: something answers, and not as ours does."""

    def __init__(self, reason: str, stranger: bool) -> None:
        super().__init__(reason)
        self.stranger = stranger


def fetch(url: str, kind: type[T], within: float) -> T:
    """What is answered at a URL within so many seconds, of JSON. Raises Unanswered."""
    try:
        with _direct.open(url, timeout=within) as answer:
            return msgspec.json.decode(answer.read(), type=kind)
    except (HTTPError, msgspec.MsgspecError) as error:
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
        request = Request(f"{tunnel}{path}?{urlencode(query or {})}", given)
        with _direct.open(request, timeout=_ANSWER) as answer:
            return msgspec.json.decode(answer.read(), type=kind)
    except HTTPError as error:
        with error:
            if error.code == 400:
                raise SettingsError(error.read().decode(errors="replace").strip()) from error
        raise NoTunnel(f"what answers at {tunnel} is no tunnel of this version: {error}") from error
    except msgspec.MsgspecError as error:
        raise NoTunnel(f"what answers at {tunnel} is no tunnel of this version: {error}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise NoTunnel(
            f"no tunnel answers at {tunnel}: {_reason(error)}; --tunnel names its admin port"
        ) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason)
