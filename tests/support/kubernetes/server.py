"""HTTPS for the API: HTTP/1.1, kept alive, watches in chunks."""

import asyncio
import socket
import ssl
from pathlib import Path

import msgspec
from aiohttp import web

from tests.support.kubernetes.api import Answer, Api, Watch
from tests.support.kubernetes.audit import Audit
from tests.support.kubernetes.calls import Call, understand
from tests.support.kubernetes.errors import Refused
from tests.support.kubernetes.faults import Faults
from tests.support.kubernetes.pki import Pki
from tests.support.kubernetes.users import Unauthenticated, User

_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}
_LONGEST = 1.0  # seconds that open requests have when the server stops


class Server:
    """A server with its data, to be started and stopped again and again; it belongs to one event loop."""

    def __init__(
        self, folder: Path, *, port: int = 0, audit_log: Path | None = None, shortest_token: int = 600
    ) -> None:
        """`folder`: for data and certificates. `port`: 0 for a free one. `shortest_token`: in seconds."""
        self.pki, self.faults = Pki(folder), Faults()
        self.port = port
        self._data = folder / "data"
        self._audit = Audit(audit_log)
        self.api = Api(self._data, self.pki.root, self.pki.tokens, self.pki.signer, shortest_token)
        self._runner: web.ServerRunner | None = None
        self.streams: set[_Stream] = set()
        self._held: dict[str, asyncio.Event] = {}  # by resource: set when its watches may go on

    async def start(self) -> Path:
        """Listen; the path of the admin's kubeconfig."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.pki.certificate, self.pki.key)
        server = web.Server(self._serve, access_log=None, handler_cancellation=True, keepalive_timeout=90.0)
        self._runner = web.ServerRunner(server, shutdown_timeout=_LONGEST)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        await web.SockSite(self._runner, self._listener, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self.pki.write_kubeconfig(self.port)

    async def stop(self) -> None:
        """Close the port and every connection; the data stay, and so does the number of the port."""
        self.cut_watches()
        if self._runner is not None:
            assert isinstance(self._runner.server, web.Server)
            await _accept_no_more(self._listener)
            for site in self._runner.sites:
                await site.stop()
            await _end_handshakes()  # else they become connections of a server that is away
            for connection in self._runner.server.connections:
                _abort(connection.transport)  # no client's answer to a polite end is waited for
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        """Stop for good, and write the data for a later start."""
        await self.stop()
        self.api.storage.save(self._data)
        self._audit.close()

    def cut_watches(self, after: int = 0) -> None:
        """Cut the connections of all watches that run, after so many further bytes of each."""
        for stream in list(self.streams):
            stream.cut(after)

    def hold(self, resource: str) -> None:
        """Let the watches of a resource, like `pods`, tell nothing until it is released."""
        self._held[resource] = asyncio.Event()

    def release(self, resource: str) -> None:
        """Let them tell what they did not."""
        self._held.pop(resource).set()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.faults.latency:
            await asyncio.sleep(self.faults.latency)
        path = request.rel_url.path
        body = await request.content.read()
        query, headers = request.rel_url.query, request.headers
        call = understand(request.method, path, uri=request.raw_path, query=query, headers=headers, body=body)
        user, reason = User(), ""
        try:
            user = self._user(headers.get("Authorization", ""))
            for access in (*self.api.implied(call), call.access):
                reason = self.api.permit(user, access)
            self._fail(call)
            answer = self.api.answer(call, user, self.faults.bookmark_every)
        except Refused as error:
            if error.code == 403 and not reason:
                reason = "no binding allows this"
            answer = Answer(error.code, msgspec.json.encode(error.status()))
        if isinstance(answer, Answer):
            stage = "ResponseStarted" if answer.code == 401 else "ResponseComplete"
            self._audit.note(call, user, answer.code, reason, stage)
            form = "text/plain" if answer.plain else "application/json"
            return web.Response(status=answer.code, body=answer.body, content_type=form)
        self._audit.note(call, user, 200, reason, "ResponseStarted")
        try:
            return await self._watch(request, answer, call.access.resource)
        finally:
            self._audit.note(call, user, 200, reason)

    def _user(self, authorization: str) -> User:
        kind, _, token = authorization.partition(" ")
        try:
            user = self.api.users.of(token.strip()) if kind.lower() == "bearer" else None
        except Unauthenticated:
            user = None
        if user is None:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return user

    def _fail(self, call: Call) -> None:
        code = self.faults.refuse(call.access.verb, call.access.resource or call.access.path)
        if code is not None:
            raise Refused(code, _REASONS.get(code, "InternalError"), "a fault that a test asked for")

    async def _watch(self, request: web.BaseRequest, events: Watch, resource: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        stream = _Stream(request, response, self.faults.watch_bytes())
        self.streams.add(stream)
        try:
            async for lines in events:
                if resource in self._held:
                    await self._held[resource].wait()
                if self.faults.mutes(resource):
                    continue
                if not await stream.write(_repeated(lines, self.faults.repeats)):
                    break
        finally:
            self.streams.discard(stream)
        return response


class _Stream:
    """The body of a watch, which may be cut anywhere."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse, left: int | None) -> None:
        self._request, self._response, self._left = request, response, left

    def cut(self, after: int) -> None:
        self._left = after
        if not after:
            _abort(self._request.transport)

    async def write(self, data: bytes) -> bool:
        """Whether the connection is still there."""
        if self._left is None or len(data) < self._left:
            if data:
                await self._response.write(data)
            if self._left is not None:
                self._left -= len(data)
            return True
        if self._left:
            await self._response.write(data[: self._left])
        self._close()
        return False

    def _close(self) -> None:
        transport = self._request.transport
        if (
            transport is not None and not transport.is_closing()
        ):  # asyncio's TLS forgets itself when closed twice
            transport.close()


def _abort(transport: asyncio.Transport | None) -> None:
    if transport is not None and not transport.is_closing():  # asyncio's TLS forgets itself when closed twice
        transport.abort()


async def _accept_no_more(listener: socket.socket) -> None:
    """Let what was accepted begin: asyncio loses its socket when the server is closed before."""
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)


async def _end_handshakes() -> None:
    """Those that are under way, of which asyncio keeps tasks and nobody else knows."""
    await asyncio.sleep(0)  # one that has not begun does not know its socket, and would leave it open
    under_way = [task for task in asyncio.all_tasks() if "_accept_connection2" in repr(task.get_coro())]
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


def _repeated(lines: bytes, times: int) -> bytes:
    if times == 1:
        return lines
    return b"".join(line * times for line in lines.splitlines(keepends=True))
