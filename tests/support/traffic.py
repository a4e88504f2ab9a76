"""Requests at a rate over kept-alive connections, with what each came to. The functions run in a Resident.

Servers answer with JSON that has their pod and its labels: those of the lab over HTTP/1.1, ours over gRPC.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

import grpc

METHOD = "/warren.test.Echo/Say"
Address = tuple[str, int]


class Result(NamedTuple):
    """sent: seconds of the monotonic clock; pod, version: who answered; error: why nobody did."""

    sent: float
    pod: str
    version: str
    error: str


_results: list[Result] = []
_stopped = threading.Event()
_senders: list[threading.Thread] = []


def start(protocol: str, to: Address, host: str, rate: int, connections: int) -> None:
    """`rate` requests a second over all connections, in the background; protocol: `http` or `grpc`."""
    _results.clear()
    _stopped.clear()
    make = {"http": _http, "grpc": _grpc}[protocol]
    for number in range(connections):
        args = (make, to, host, connections / rate, number / rate)
        _senders.append(threading.Thread(target=_send, args=args, daemon=True))
        _senders[-1].start()


def results() -> list[Result]:
    """So far."""
    return list(_results)


def stop() -> list[Result]:
    """All."""
    _stopped.set()
    while _senders:
        _senders.pop().join()
    return list(_results)


def now() -> float:
    return time.monotonic()


def serve_grpc(port: int, pod: str, version: str) -> None:
    """A server in the background."""
    answer = json.dumps({"pod": pod, "labels": {"version": version}}).encode()
    said: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    service, _, method = METHOD[1:].partition("/")
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: said})])
    assert server.add_insecure_port(f"0.0.0.0:{port}") == port
    server.start()
    _kept.append(server)


_kept: list[object] = []  # a server ends when nobody has it any more


def _send(
    make: Callable[[Address, str], Callable[[], bytes]], to: Address, host: str, pause: float, due: float
) -> None:
    ask = make(to, host)
    due += time.monotonic()
    while not _stopped.wait(max(0, due - time.monotonic())):
        began = time.monotonic()
        try:
            facts = json.loads(ask())
            _results.append(Result(began, facts["pod"], facts["labels"].get("version", ""), ""))
        except Exception as error:  # whatever it is: it is what is looked for
            _results.append(Result(began, "", "", " ".join(repr(error).split())[:300]))
        due = max(due + pause, time.monotonic())


def _http(to: Address, host: str) -> Callable[[], bytes]:
    """It connects anew only after the server has said that the connection ends."""
    connection = http.client.HTTPConnection(*to, timeout=20)

    def ask() -> bytes:
        connection.request("GET", "/", headers={"Host": host})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, f"{response.status} {body!r}"
        return body

    return ask


def _grpc(to: Address, host: str) -> Callable[[], bytes]:
    """Each has a connection of its own."""
    options = [
        ("grpc.default_authority", host),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    ]
    say: Any = grpc.insecure_channel(f"{to[0]}:{to[1]}", options).unary_unary(METHOD)
    return lambda: bytes(say(b"", timeout=20))


def call(to: Address, metadata: tuple[tuple[str, str], ...] = (), method: str = METHOD) -> str:
    """The version that answers one call over gRPC, or the status in place of it."""
    with grpc.insecure_channel(f"{to[0]}:{to[1]}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            say: Any = channel.unary_unary(method)
            facts = json.loads(say(b"", timeout=20, metadata=metadata))
            return str(facts["labels"]["version"])
        except grpc.RpcError as error:
            return str(error.code().name)
