"""An HTTP/1.1 server that answers as each request asks, and keeps what it has seen; and its client.

The functions run in a Resident. A request says by its headers what it wants:
  x-case            under which name it is kept
  x-answer          statuses of the answers to its tries, one after the other (200; the last one stays);
                    `close` ends the connection in place of an answer, `reset` does so with RST
  x-answer-delay    milliseconds before each answer
  x-answer-header   `name: value` of the answers; may be repeated
"""

import http.client
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from tests.support.sockets import reset_on_close

Fields = tuple[tuple[str, str], ...]


class Seen(NamedTuple):
    """A request as it came: names of `headers` in lower case."""

    line: str
    headers: Fields
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


class Answer(NamedTuple):
    """As it came; status 0: none did, for the connection ended or nothing came within 5 s, as `body` says."""

    status: int
    headers: Fields
    body: bytes


_seen: defaultdict[str, list[Seen]] = defaultdict(list)


def serve(port: int, name: str) -> None:
    """Serve in the background; `name` is what answers hold."""
    server = socket.create_server(("", port), backlog=1024)
    threading.Thread(target=_accept, args=(server, name.encode()), daemon=True).start()


def seen() -> dict[str, list[Seen]]:
    """All requests so far, by case."""
    return dict(_seen)


def ask(to: tuple[str, int], request: bytes, method: str) -> Answer:
    """One request over a connection of its own."""
    with socket.create_connection(to, timeout=5) as sock:
        sock.sendall(request)
        response = http.client.HTTPResponse(sock, method=method)
        try:
            response.begin()
            body = response.read()
        except (http.client.BadStatusLine, OSError) as error:
            return Answer(0, (), type(error).__name__.encode())
        return Answer(response.status, tuple((k.lower(), v) for k, v in response.getheaders()), body)


def _accept(server: socket.socket, name: bytes) -> None:
    while True:
        sock, _ = server.accept()
        threading.Thread(target=_talk, args=(sock, name), daemon=True).start()


def _talk(sock: socket.socket, name: bytes) -> None:
    with sock, sock.makefile("rb") as stream:
        for request in _requests(stream):
            case = "".join(request.all("x-case"))
            _seen[case].append(request)
            wanted = " ".join(request.all("x-answer")).split() or ["200"]
            status = wanted[min(len(_seen[case]), len(wanted)) - 1]
            time.sleep(int("".join(request.all("x-answer-delay")) or 0) / 1000)
            if not status.isdecimal():
                if status == "reset":
                    reset_on_close(sock)
                return
            head = [f"HTTP/1.1 {status} Said", *request.all("x-answer-header")]
            body = b"" if status in ("101", "204", "304") else name
            head += [f"content-length: {len(body)}"] if body else []
            body = b"" if request.line.startswith("HEAD ") else body
            sock.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)


def _requests(stream: BinaryIO) -> Iterator[Seen]:
    while line := stream.readline().decode("latin-1").strip():
        headers = tuple(_fields(stream))
        given = dict(headers)
        if given.get("transfer-encoding") == "chunked":
            body = b"".join(_chunks(stream))
        else:
            body = stream.read(int(given.get("content-length", 0)))
        yield Seen(line, headers, body)


def _fields(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        yield name.lower(), value.strip()


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while size := int(stream.readline(), 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()
