"""What servers do with a connection, and what they say of it."""

import errno
import hashlib
import select
import socket

from tests.support.behaving.behaviour import Report, name_of
from tests.support.behaving.clients import events, option
from tests.support.sockets import reset_on_close


def to_the_end(sock: socket.socket) -> Report:
    """Read until it is over."""
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
    except OSError as error:
        return [data, name_of(error)]
    return [data, "end"]


def how_it_ends(sock: socket.socket) -> Report:
    """How much has been read until then is chance."""
    return to_the_end(sock)[1:]


def echo(sock: socket.socket) -> Report:
    while data := sock.recv(1 << 16):
        sock.sendall(data)
    return ["end"]


def answer_at_the_end(sock: socket.socket) -> Report:
    seen = to_the_end(sock)
    sock.sendall(b"answer")
    return seen


def speaks_on(sock: socket.socket) -> Report:
    """After its client's end; what the kernel tells of that."""
    seen = to_the_end(sock)
    sock.sendall(b"is anybody there?")
    return [*seen, events(sock, 0), errno.errorcode[option(sock, socket.SO_ERROR)]]


def reset(sock: socket.socket) -> Report:
    reset_on_close(sock)
    sock.close()
    return []


def reset_when_told(sock: socket.socket) -> Report:
    return [sock.recv(1), reset(sock)]


def unread(sock: socket.socket) -> Report:
    return events(sock, select.POLLIN)


def end_first(sock: socket.socket) -> Report:
    sock.sendall(b"last words")
    sock.shutdown(socket.SHUT_WR)
    return to_the_end(sock)


def late(sock: socket.socket) -> Report:
    """Reads when its client can send no more."""
    digest, size = hashlib.blake2b(), 0
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.poll(1000)
    while data := sock.recv(1 << 20):
        digest.update(data)
        size += len(data)
    return [size, digest.hexdigest()]


def errors(sock: socket.socket) -> Report:
    """What the kernel tells of a connection that is reset, without a read."""
    told = events(sock, 0)
    return [
        told,
        errno.errorcode[option(sock, socket.SO_ERROR)],
        option(sock, socket.SO_ERROR),
        sock.recv(1),
    ]


def told_its_client(sock: socket.socket) -> Report:
    """Who its client is, in words that the client can hold against its own."""
    peer, own = sock.getpeername(), sock.getsockname()
    sock.sendall(f"{peer[0]} {peer[1]} {own[0]} {own[1]}\n".encode())
    return to_the_end(sock)


def urgent(sock: socket.socket) -> Report:
    sent = [sock.send(b"abc"), sock.send(b"!", socket.MSG_OOB), sock.send(b"def")]
    return [*sent, *to_the_end(sock)]


def inline(sock: socket.socket) -> Report:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.sendall(b"ready")
    return to_the_end(sock)
