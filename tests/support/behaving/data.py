"""Bytes, one and many, and what is read of them when."""

import fcntl
import os
import select
import socket
import struct
import tempfile
import termios
from concurrent.futures import ThreadPoolExecutor

from tests.support.behaving.behaviour import TIME, Place, Report, behaviour, name_of
from tests.support.behaving.clients import attempt, carries, connected, events, exactly, made
from tests.support.behaving.servers import echo, inline, late, reset, to_the_end, urgent

_MUCH = 8 << 20
_SO_ZEROCOPY, _MSG_ZEROCOPY = 60, 0x4000000


@behaviour(echo)
def bytes_come_back(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(inline)
def an_urgent_byte(place: Place) -> Report:
    with connected(place) as sock:
        assert exactly(sock, 5)
        return [sock.send(b"abc"), sock.send(b"!", socket.MSG_OOB), sock.send(b"def")]


@behaviour(inline)
def many_urgent_bytes(place: Place) -> Report:
    with connected(place) as sock:
        assert exactly(sock, 5)
        return [sock.send(b"abc"), sock.send(b"!" * 1000, socket.MSG_OOB), sock.send(b"def")]


@behaviour(urgent)
def an_urgent_byte_of_the_server(place: Place) -> Report:
    with made(place) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        sock.connect(place.to)
        return [exactly(sock, 7)]


@behaviour(echo)
def a_look_at_what_is_there(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"hello")
        events(sock, select.POLLIN)
        waiting = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
        return [sock.recv(3, socket.MSG_PEEK), *waiting, exactly(sock, 5)]


@behaviour(echo)
def nothing_is_there(place: Place) -> Report:
    with connected(place) as sock:
        sock.setblocking(False)
        nothing = attempt(lambda: sock.recv(1))
        sock.settimeout(TIME)
        return [nothing, *carries(sock)]


@behaviour(echo)
def a_low_water_mark(place: Place) -> Report:
    with connected(place) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 6)
        sock.sendall(b"hello")
        sock.sendall(b"!")
        return [events(sock, select.POLLIN), sock.recv(10)]


@behaviour(echo)
def a_read_that_waits_for_all(place: Place) -> Report:
    with connected(place) as sock:
        sock.setblocking(True)
        sent = [sock.sendmsg([b"in ", b"three "]), sock.send(b"pieces")]
        return [*sent, sock.recv(15, socket.MSG_WAITALL)]


@behaviour(echo)
def a_read_that_times_out(place: Place) -> Report:
    with connected(place) as sock:
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 10_000))
        timed_out = attempt(lambda: sock.recv(1))
        sock.settimeout(TIME)  # the socket's own holds for reads that block alone
        return [timed_out, *carries(sock)]


@behaviour(echo)
def much_both_ways_at_once(place: Place) -> Report:
    with connected(place) as sock, ThreadPoolExecutor(1) as threads:
        returned = threads.submit(to_the_end, sock)
        sent = bytes(range(256)) * (_MUCH >> 9)
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        data, end = returned.result()
        return [data == sent, end]


@behaviour(echo, options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
def little_room(place: Place) -> Report:
    """For bytes that wait, at both ends."""
    with made(place) as sock, ThreadPoolExecutor(1) as threads:
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, name, 4096)
        sock.connect(place.to)
        returned = threads.submit(exactly, sock, 50_000)
        sock.sendall(bytes(50_000))
        return [len(returned.result())]


@behaviour(echo)
def bytes_that_are_not_copied(place: Place) -> Report:
    """The kernel tells when it needs them no more; whether it copied them after all is its own matter."""
    with connected(place) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ZEROCOPY, 1)
        sent = sock.send(bytes(20_000), _MSG_ZEROCOPY)
        arrived = len(exactly(sock, 20_000))
        told = events(sock, 0)
        _, [(_, _, extended)], *_ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        return [sent, arrived, told, extended[:5]]  # errno and origin of struct sock_extended_err


@behaviour(echo)
def little_writes(place: Place) -> Report:
    with connected(place) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = sum(sock.send(bytes([n])) for n in range(200))
        return [sent, exactly(sock, 200) == bytes(range(200))]


@behaviour(echo)
def writes_that_are_held_together(place: Place) -> Report:
    with connected(place) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        sock.sendall(b"one")
        sock.sendall(b"two")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        return [exactly(sock, 6)]


@behaviour(echo)
def a_write_of_nothing(place: Place) -> Report:
    with connected(place) as sock:
        return [sock.send(b""), *carries(sock)]


@behaviour(late)
def a_large_write_to_a_slow_reader(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(bytes(range(256)) * (_MUCH >> 8))
    return []


@behaviour(late)
def no_room_for_more(place: Place) -> Report:
    with connected(place) as sock:
        sock.setblocking(False)
        full = ""
        while not full:
            try:
                sock.send(bytes(1 << 16))
            except BlockingIOError as error:
                full = name_of(error)
        return [full, reset(sock)]


@behaviour(late)
def a_file_that_is_sent(place: Place) -> Report:
    with connected(place) as sock, tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)) * (_MUCH >> 8))
        file.seek(0)
        return [sock.sendfile(file)]


@behaviour(late)
def bytes_that_are_spliced(place: Place) -> Report:
    reading, writing = os.pipe()
    with connected(place) as sock, os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
        sock.setblocking(True)
        os.write(sink.fileno(), bytes(50000))
        return [os.splice(source.fileno(), sock.fileno(), 50000)]
