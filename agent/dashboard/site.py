"""The page of the map, for one machine's browsers: read-only, on loopback, behind a token in the link.

The token is the first step of the path: relative addresses keep it, no cookie is sent to other ports, and a
page that does not have the link gets nothing. The Host header has to name loopback, or a page of another site
could reach it through a name of its own (DNS rebinding).
"""

import asyncio
import hmac
import os
import secrets
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

import msgspec

from agent.dashboard.board import WINDOWS, Board
from agent.errors import SettingsError
from protocols import web
from protocols.web import EVENTS, JSON, Handler, Request, Response, Routes

LOOPBACK = "127.0.0.1"
_PAGE = Path(__file__).with_name("page")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MOST_STREAMS = 16
_LINGER = 900.0  # seconds after the last look at the page for which it counts as watched


class Site:
    """Serves a board. The link is only good at this machine, and as long as the token is."""

    def __init__(self, board: Board, token: str) -> None:
        self._board = board
        self._token = token
        self._ticked = asyncio.Event()
        self._streams = 0
        self._seen = -_LINGER
        self._port = 0

    @property
    def link(self) -> str:
        """What a browser opens."""
        return f"http://{LOOPBACK}:{self._port}/{self._token}/"

    @property
    def watched(self) -> bool:
        """Somebody looks at it, or did some minutes ago."""
        return self._streams > 0 or time.monotonic() - self._seen < _LINGER

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on loopback; 0: at a free port. Raises SettingsError."""
        try:
            server = await web.serve(self._routes(), LOOPBACK, port, guard=self._guard)
        except OSError as error:
            raise SettingsError(
                f"port {port} for the map: {error.strerror or error}; choose another"
            ) from error
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def run(self, interval: float = 1.0) -> None:
        """Let time pass on the board, and tell all pages."""
        while True:
            await asyncio.sleep(interval)
            self._board.tick()
            ticked, self._ticked = self._ticked, asyncio.Event()
            ticked.set()

    def _routes(self) -> Routes:
        files = {f"/{path.name}": _file(path) for path in _PAGE.iterdir() if path.suffix in _TYPES}
        return {
            ("GET", "/"): files["/index.html"],
            **{("GET", name): handler for name, handler in files.items()},
            ("GET", "/events"): self._events,
            ("GET", "/graph"): self._graph,
            ("GET", "/records"): self._records,
        }

    def _guard(self, request: Request) -> Request | Response:
        """Without the token, which is no longer there for the routes."""
        if not names_loopback(request.headers.get("host", "")):
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, "the map answers on loopback only")
        token, _, rest = request.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return _refusal(HTTPStatus.UNAUTHORIZED, "open the link that `warren dashboard` prints")
        if "/" not in request.path[1:]:  # relative addresses begin after the last slash
            return Response("", status=HTTPStatus.SEE_OTHER, headers={**_HEADERS, "Location": self.link})
        self._seen = time.monotonic()
        return request._replace(path=f"/{rest}")

    async def _events(self, request: Request) -> Response:
        try:
            window = _window(request)
        except ValueError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        if self._streams >= _MOST_STREAMS:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_STREAMS} pages are open: close one")
        return Response(self._stream(window), EVENTS, headers=_HEADERS)

    async def _stream(self, window: int) -> AsyncIterator[str]:
        self._streams += 1
        known = -1
        try:
            yield "retry: 1000\n\n"
            while True:
                ticked = self._ticked
                graph = self._board.graph(window, known=known)
                known = graph.version
                yield f"data: {msgspec.json.encode(graph).decode()}\n\n"
                await ticked.wait()
        finally:
            self._streams -= 1
            self._seen = time.monotonic()

    async def _graph(self, request: Request) -> Response:
        """window, ago: in seconds."""
        try:
            graph = self._board.graph(_window(request), float(request.query.get("ago", "0")))
        except ValueError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        return _json(graph)

    async def _records(self, request: Request) -> Response:
        """source, destination: parties, or empty for all."""
        query = request.query
        return _json(self._board.events(query.get("source", ""), query.get("destination", "")))


def names_loopback(host: str) -> bool:
    """Whether a Host header means this machine, whatever port somebody forwards."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]")
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def kept_token(path: Path) -> str:
    """The token in this file, for root alone; made where there is none, so that a page outlives the agent."""
    try:
        if len(token := path.read_text()) >= 32:
            return token
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(32)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    new.replace(path)
    return token


def _window(request: Request) -> int:
    """Raises ValueError."""
    window = int(request.query.get("window", "60"))
    if window not in WINDOWS:
        raise ValueError(f"window {window} is none of {', '.join(map(str, WINDOWS))} seconds")
    return window


def _file(path: Path) -> Handler:
    response = Response(path.read_bytes(), _TYPES[path.suffix], headers=_HEADERS)

    async def answer(_: Request) -> Response:
        return response

    return answer


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), JSON, headers=_HEADERS)


def _refusal(status: HTTPStatus, text: str) -> Response:
    return Response(f"{text}\n", status=status, headers=_HEADERS)
