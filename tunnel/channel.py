"""gRPC to agent, authority and collectors: the core speaks it (`tunnel/src/grpc`), asyncio waits here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from tunnel import _core
from tunnel.readable import readable

Metadata = Sequence[tuple[str, str]]


class Code(IntEnum):
    """How calls end (gRPC's statuscodes)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call failed."""

    def __init__(self, code: Code, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


class Stream:
    """A call with messages both ways. Several tasks may send, one reads."""

    def __init__(self, call: _core.Call) -> None:
        self._call = call

    def send(self, message: bytes) -> None:
        """Never waits: where the server does not read for long, the call ends."""
        self._call.send(message)

    async def read(self) -> bytes | None:
        """The next message; None at the end. Raises RpcError."""
        while (event := self._call.next()) is None:
            with readable(self._call.fileno()) as news:
                await news.wait()
        if isinstance(event, bytes):
            return event
        code, details = event
        if code != Code.OK:
            raise RpcError(Code(code), details)
        return None


class Channel:
    """To one server: `unix:PATH`, `http://HOST:PORT`, or `https://HOST:PORT` for which `root` has to vouch.

    It connects at the first call, and again at the first one after a connection was lost. A message may have
    200 MB.
    """

    def __init__(self, url: str, root: Path | None = None) -> None:
        """root: PEM file; None: the system's. Raises OSError when it cannot be used."""
        self._channel = _core.Channel(url, root.read_bytes() if root else None)

    async def connect(self, deadline: float) -> None:
        """Have a connection, with its TLS handshake, within so many seconds. Raises RpcError."""
        with _running(self._channel.connect(deadline)) as stream:
            await stream.read()

    async def call(self, method: str, message: bytes, deadline: float, metadata: Metadata = ()) -> bytes:
        """The answer to a request, within so many seconds. Raises RpcError."""
        with _running(self._channel.call(method, [*metadata], message, deadline)) as stream:
            answer = await stream.read()
            if answer is None or await stream.read() is not None:
                raise RpcError(Code.INTERNAL, "the server sent no single message")
            return answer

    @contextmanager
    def stream(self, method: str, metadata: Metadata = ()) -> Iterator[Stream]:
        """A call that is cancelled at the end of a `with`."""
        with _running(self._channel.call(method, [*metadata])) as stream:
            yield stream


@contextmanager
def _running(call: _core.Call) -> Iterator[Stream]:
    try:
        yield Stream(call)
    finally:
        call.cancel()


def metadata(cluster: str, token: Path | None) -> tuple[tuple[str, str], ...]:
    """What goes with a call, istiod's way. The token is read each time: it is short-lived. Raises OSError."""
    headers = (("clusterid", cluster),)
    if token is None:
        return headers
    return (*headers, ("authorization", f"Bearer {token.read_text().strip()}"))
