"""Bytes, one and many, and what is read of them when."""

import fcntl
import os
import select
import socket
import struct
import tempfile
import termios

from tests.support.behaving.behaviour import TIME, Place, Report, behaviour, name_of
from tests.support.behaving.clients import attempt, carries, connected, events, exactly
from tests.support.behaving.servers import echo, inline, late, reset

_MUCH = 8 << 20


@behaviour(echo)
def bytes_come_back(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(inline)
def an_urgent_byte(place: Place) -> Report:
    with connected(place) as sock:
        assert exactly(sock, 5)
        return [sock.send(b"abc"), sock.send(b"!", socket.MSG_OOB), sock.send(b"def")]


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
