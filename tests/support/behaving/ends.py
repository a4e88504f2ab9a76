"""Ends, resets, and what is told of them."""

import errno
import select
import socket
import struct
from contextlib import suppress

from tests.support.behaving.behaviour import Place, Report, behaviour
from tests.support.behaving.clients import attempt, becomes, carries, connected, events, exactly, made, option
from tests.support.behaving.servers import (
    answer_at_the_end,
    echo,
    end_first,
    errors,
    how_it_ends,
    reset,
    reset_when_told,
    speaks_on,
    to_the_end,
    unread,
)


@behaviour(to_the_end)
def an_end(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"all")
    return []


@behaviour(to_the_end)
def an_end_without_a_word(place: Place) -> Report:
    with connected(place):
        return []


@behaviour(answer_at_the_end)
def an_answer_after_the_clients_end(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        return to_the_end(sock)


@behaviour(end_first)
def a_server_that_ends_first(place: Place) -> Report:
    with connected(place) as sock:
        seen = to_the_end(sock)
        sock.sendall(b"the rest")
        return seen


@behaviour(echo)
def an_end_of_both_ways(place: Place) -> Report:
    with connected(place) as sock:
        carried = carries(sock)
        sock.shutdown(socket.SHUT_RDWR)
        return [*carried, sock.recv(1), attempt(lambda: sock.send(b"x"))]


@behaviour(speaks_on)
def a_client_that_reads_no_answer(place: Place) -> Report:
    """Its kernel resets what comes after an end of both ways."""
    with connected(place) as sock:
        sock.shutdown(socket.SHUT_RDWR)
        return [becomes(sock, {7})]  # CLOSE


@behaviour(speaks_on)
def a_client_that_has_gone(place: Place) -> Report:
    with connected(place):
        return []


@behaviour(end_first)
def events_of_an_end(place: Place) -> Report:
    with connected(place) as sock:
        return [
            exactly(sock, 10),
            events(sock, select.POLLRDHUP),
            events(sock, select.POLLIN),
        ]


@behaviour(end_first)
def nothing_more_may_be_sent_after_its_own_end(place: Place) -> Report:
    with connected(place) as sock:
        sock.shutdown(socket.SHUT_WR)
        return [attempt(lambda: sock.send(b"x")), *to_the_end(sock)]


@behaviour(end_first)
def a_client_that_reads_no_more(place: Place) -> Report:
    with connected(place) as sock:
        exactly(sock, 10)
        sock.shutdown(socket.SHUT_RD)
        return [sock.recv(10), sock.send(b"still sent")]


@behaviour(to_the_end)
def a_reset_at_once(place: Place) -> Report:
    with connected(place) as sock:
        return reset(sock)


@behaviour(echo)
def a_reset_in_between(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock) + reset(sock)


@behaviour(how_it_ends)
def a_reset_behind_many_bytes(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(bytes(1 << 20))
        return reset(sock)


@behaviour(errors)
def what_the_kernel_tells_of_a_reset(place: Place) -> Report:
    with connected(place) as sock:
        return reset(sock)


@behaviour(echo)
def a_reset_because_of_unread_bytes(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"hello")
        return events(sock, select.POLLIN)


@behaviour(reset)
def a_server_that_resets_at_once(place: Place) -> Report:
    """Whether connect() or what comes next tells it is chance, and through a tunnel how connect() does."""
    with made(place) as sock:

        def connect_and_read() -> bytes:
            with suppress(ConnectionRefusedError):
                sock.connect(place.to)
                return sock.recv(1)
            raise ConnectionResetError(errno.ECONNRESET, "refused, where others have it reset")

        return [attempt(connect_and_read), attempt(lambda: sock.send(b"x"))]


@behaviour(reset_when_told)
def a_server_that_resets_later(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"x")
        return [attempt(lambda: sock.recv(1)), sock.recv(1), attempt(lambda: sock.send(b"x"))]


@behaviour(reset_when_told)
def events_of_a_reset(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"x")
        woken = "POLLERR" in events(sock, 0)
        becomes(sock, {7})  # CLOSE: the kernel tells of the error before that, and may be seen in between
        told = woken, events(sock, 0), events(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        return [*told, errno.errorcode[option(sock, socket.SO_ERROR)], option(sock, socket.SO_ERROR)]


@behaviour(unread)
def a_server_that_does_not_read(place: Place) -> Report:
    with connected(place) as sock:
        sock.sendall(b"unread")
        return [attempt(lambda: sock.recv(1))]


@behaviour(end_first)
def a_client_that_lingers(place: Place) -> Report:
    with connected(place) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
        seen = to_the_end(sock)
        sock.sendall(b"sent before it closes")
        return seen
