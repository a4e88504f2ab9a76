"""Questions to name servers, as C libraries and Go ask them. The functions run in a Resident."""

import socket
import struct
import time

Address = tuple[str, int]

_PATIENCE = 8.0  # seconds
TYPES = {"A": 1, "NS": 2, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65}


def message(name: str, kind: str, number: int = 0x4242, edns: bytes = b"") -> bytes:
    """A question; `edns`: a record behind it."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    head = struct.pack("!6H", number, 0x0100, 1, 0, 0, 1 if edns else 0)
    return head + labels + b"\0" + struct.pack("!2H", TYPES[kind], 1) + edns


def unconnected(server: Address, *questions: bytes) -> list[tuple[bytes, str]]:
    """All at once over one socket; each answer with the address that it comes from."""
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE)
        for question in questions:
            sock.sendto(question, server)
        found = dict[bytes, tuple[bytes, str]]()
        while len(found) < len(questions):
            answer, (host, port, *_) = sock.recvfrom(65535)
            found[answer[:2]] = answer, f"{host} {port}"
        return [found[question[:2]] for question in questions]


def connected(server: Address, *questions: bytes) -> tuple[list[bytes], str]:
    """The same over a connected socket, with the peer that it says it has."""
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE)
        sock.connect(server)
        for question in questions:
            sock.send(question)
        found = {}
        for _ in questions:
            answer = sock.recv(65535)
            found[answer[:2]] = answer
        host, port, *_ = sock.getpeername()
        return [found[question[:2]] for question in questions], f"{host} {port}"


def over_tcp(server: Address, *questions: bytes) -> list[bytes]:
    """One after the other over one connection."""
    answers = []
    with socket.create_connection(server, timeout=_PATIENCE) as sock, sock.makefile("rb") as stream:
        for question in questions:
            sock.sendall(struct.pack("!H", len(question)) + question)
            (length,) = struct.unpack("!H", stream.read(2))
            answers.append(stream.read(length))
    return answers


def seconds(server: Address, question: bytes, times: int) -> list[float]:
    """How long each of so many answers took."""
    result = []
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE)
        sock.connect(server)
        for _ in range(times):
            began = time.monotonic()
            sock.send(question)
            sock.recv(65535)
            result.append(time.monotonic() - began)
    return result


def _family(server: Address) -> int:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET
