"""Connections that stay open and carry bytes all the time, and what became of each byte.

Blocks of 1 KiB go there and come back: over plain TCP, over a WebSocket (what follows an HTTP/1.1 upgrade),
and over streams of gRPC. Each is compared with what was sent, and its way is timed. The functions run in a
Resident.
"""

import itertools
import os
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import grpc

from tests.support.sockets import serve_on

Address = tuple[str, int]

_BLOCK = 1024
_PATIENCE = 20.0  # seconds for a block to come back
_STREAMS = 10  # of one channel of gRPC
_ASK = (
    b"GET /chat HTTP/1.1\r\nhost: %s\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_METHOD = "/upgrade.Echo/Talk"


class Account(NamedTuple):
    """waits: seconds that blocks took there and back."""

    blocks: int
    errors: list[str]
    waits: list[float]


def serve(port: int, websocket: bool = False) -> None:
    """Echo in the background; of a WebSocket what follows the upgrade."""
    listener = socket.create_server(("::", port), family=socket.AF_INET6, backlog=4096, dualstack_ipv6=True)
    answer = _ANSWER if websocket else b""
    threading.Thread(target=serve_on, args=(listener, b"", answer), daemon=True).start()


def serve_grpc(port: int) -> None:
    """Echo what streams say, in the background."""
    server = grpc.server(ThreadPoolExecutor(1100))
    handler: Any = grpc.stream_stream_rpc_method_handler(lambda said, _: said)
    service = grpc.method_handlers_generic_handler("upgrade.Echo", {"Talk": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    _kept.append(server)


_kept: list[object] = []


class _Talk(ABC):
    """Connections that say a block each every `pause` seconds, until they are told to stop."""

    def __init__(self, pause: float) -> None:
        self.pause, self.stop = pause, threading.Event()
        self.blocks, self.errors, self.waits = 0, list[str](), list[float]()

    @abstractmethod
    def close(self) -> None: ...

    def heard(self, sent: bytes, heard: bytes, since: float) -> None:
        self.waits.append(time.monotonic() - since)
        if sent == heard:
            self.blocks += 1
        else:
            self.errors.append("other bytes came back")


class _Sockets(_Talk):
    def __init__(self, socks: list[socket.socket], pause: float) -> None:
        super().__init__(pause)
        self.socks = {sock.fileno(): sock for sock in socks}
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        poll = select.epoll()
        sent, heard, since = dict[int, bytes](), dict[int, bytes](), dict[int, float]()
        for fd in self.socks:
            poll.register(fd, select.EPOLLIN)
        begun = time.monotonic()
        due = {fd: begun + self.pause * number / len(self.socks) for number, fd in enumerate(self.socks)}
        while not self.stop.is_set() or sent:
            now = time.monotonic()
            if not self.stop.is_set():
                for fd in [fd for fd, at in due.items() if at <= now and fd not in sent]:
                    sent[fd], heard[fd], since[fd] = os.urandom(_BLOCK), b"", now
                    due[fd] = now + self.pause
                    self._try(fd, sent, due, partial(self.socks[fd].sendall, sent[fd]))
            for fd, _ in poll.poll(0.005):
                if fd not in sent:
                    self.errors.append("ended, or said what it was not asked")
                    poll.unregister(fd)
                    due.pop(fd, None)
                    continue

                def hear(fd: int = fd) -> None:
                    if not (data := self.socks[fd].recv(1 << 16)):
                        raise ConnectionError("ended")
                    heard[fd] += data

                if not self._try(fd, sent, due, hear):
                    poll.unregister(fd)
                elif len(heard[fd]) >= _BLOCK:
                    self.heard(sent.pop(fd), heard[fd], since[fd])
            if self.stop.is_set() and sent and time.monotonic() - max(since.values()) > _PATIENCE:
                self.errors += ["a block did not come back"] * len(sent)
                return

    def close(self) -> None:
        """When all that was sent is back."""
        self.thread.join()

    def _try(self, fd: int, sent: dict[int, bytes], due: dict[int, float], act: Callable[[], object]) -> bool:
        try:
            act()
        except OSError as error:
            self.errors.append(str(error))
            sent.pop(fd, None)
            due.pop(fd, None)
            return False
        return True


class _Streams(_Talk):
    def __init__(self, channels: list[grpc.Channel], count: int, pause: float) -> None:
        super().__init__(pause)
        self.channels = channels
        self.ways: list[int] = [0] * count  # blocks under way, of each stream
        self.threads = [
            threading.Thread(target=self._run, args=(one, channels[one % len(channels)]))
            for one in range(count)
        ]
        self.up = threading.Semaphore(0)
        for thread in self.threads:
            thread.daemon = True
            thread.start()
        for _ in self.threads:
            assert self.up.acquire(timeout=30)

    def _run(self, own: int, channel: grpc.Channel) -> None:
        sent: list[tuple[bytes, float]] = []

        def saying() -> Iterator[bytes]:
            for number in itertools.count():
                if number > 0 and self.stop.wait(self.pause):
                    return
                self.ways[own] += 1
                sent.append((os.urandom(_BLOCK), time.monotonic()))
                yield sent[-1][0]

        try:
            talk: Any = channel.stream_stream(_METHOD)
            for number, heard in enumerate(talk(saying())):
                self.heard(sent[number][0], heard, sent[number][1])
                self.ways[own] -= 1
                if number == 0:
                    self.up.release()
            if not self.stop.is_set():  # a stream that its client has ended, its server ends as well
                raise ConnectionError("the stream ended")
        except (grpc.RpcError, ConnectionError) as error:
            if not self.closed:
                self.errors.append(str(error))

    closed = False

    def close(self) -> None:
        """When all that was sent is back."""
        deadline = time.monotonic() + _PATIENCE
        while any(self.ways) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.errors += ["a block did not come back"] * sum(self.ways)
        self.closed = True
        for channel in self.channels:
            channel.close()


_talks: dict[int, _Talk] = {}
_numbers = itertools.count(1)


def talk(to: Address, count: int, pause: float) -> int:
    """Open connections, each of which says a block every `pause` seconds; the number by which it is known."""
    return _keep(_Sockets([socket.create_connection(to, timeout=20) for _ in range(count)], pause))


def talk_websocket(to: Address, host: str, count: int, pause: float) -> int:
    """The same, each after an upgrade."""
    socks = []
    for _ in range(count):
        sock = socket.create_connection(to, timeout=20)
        sock.sendall(_ASK % host.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = sock.recv(4096)
            assert data, answer
            answer += data
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        socks.append(sock)
    return _keep(_Sockets(socks, pause))


def talk_grpc(to: Address, host: str, count: int, pause: float) -> int:
    """The same over streams, ten to a connection."""
    options = (("grpc.default_authority", host), ("grpc.use_local_subchannel_pool", 1))
    target = f"{to[0]}:{to[1]}"
    channels = [grpc.insecure_channel(target, options) for _ in range(-(-count // _STREAMS))]
    return _keep(_Streams(channels, count, pause))


def _keep(talk: _Talk) -> int:
    _talks[number := next(_numbers)] = talk
    return number


def errors(number: int) -> list[str]:
    """What has gone wrong so far."""
    return list(_talks[number].errors)


def account(number: int) -> Account:
    """End it, and tell."""
    talk = _talks.pop(number)
    talk.stop.set()
    talk.close()
    return Account(talk.blocks, talk.errors, talk.waits)


def answers(to: Address) -> bool:
    """Whether a word comes back from there."""
    try:
        with socket.create_connection(to, timeout=20) as sock:
            sock.sendall(b"word")
            return sock.recv(4, socket.MSG_WAITALL) == b"word"
    except OSError:
        return False


class _Calls:
    """A new connection every few milliseconds, each of which says a word."""

    def __init__(self, to: Address, every: float) -> None:
        self.to, self.every, self.stop = to, every, threading.Event()
        self.made, self.errors, self.slowest = 0, list[str](), 0.0
        self.pool = ThreadPoolExecutor(64)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.wait(self.every):
            self.pool.submit(self._call)

    def _call(self) -> None:
        begun = time.monotonic()
        try:
            with socket.create_connection(self.to, timeout=20) as sock:
                sock.sendall(b"word")
                heard = b""
                while len(heard) < 4 and (data := sock.recv(4)):
                    heard += data
        except OSError as error:
            self.errors.append(f"{error} after {time.monotonic() - begun:.3f} s")
            return
        if heard != b"word":
            self.errors.append(f"{heard!r} after {time.monotonic() - begun:.3f} s")
        self.made += 1
        self.slowest = max(self.slowest, time.monotonic() - begun)


_calls: dict[int, _Calls] = {}


def call(to: Address, every: float) -> int:
    """Open a new connection each `every` seconds, whatever became of the ones before."""
    _calls[number := next(_numbers)] = _Calls(to, every)
    return number


def called(number: int) -> tuple[int, list[str], float]:
    """End it: how many were made, what went wrong, seconds that the slowest took."""
    calls = _calls.pop(number)
    calls.stop.set()
    calls.thread.join()
    calls.pool.shutdown()
    return calls.made, calls.errors, calls.slowest
