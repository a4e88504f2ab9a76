"""Connecting, options, states, descriptors."""

import contextlib
import ctypes
import errno
import os
import select
import socket

from tests.support.behaving.behaviour import MPTCP, TIME, Place, Report, behaviour
from tests.support.behaving.clients import (
    attempt,
    becomes,
    carries,
    connected,
    events,
    exactly,
    made,
    names,
    option,
    state,
)
from tests.support.behaving.servers import echo, end_first, to_the_end

_TCP_FASTOPEN_CONNECT, _SO_ORIGINAL_DST = 30, 80


@behaviour(echo)
def a_connect_that_does_not_wait(place: Place) -> Report:
    with made(place) as sock:
        sock.setblocking(False)
        begun = errno.errorcode[sock.connect_ex(place.to)]
        told = events(sock, select.POLLOUT), option(sock, socket.SO_ERROR)
        sock.settimeout(TIME)
        return [begun, *told, *names(sock, place), *carries(sock)]


@behaviour(to_the_end, bare=True)
def a_refusal_that_is_not_waited_for(place: Place) -> Report:
    """Nobody listens there. The refusal may come before the call returns."""
    with made(place) as sock:
        sock.setblocking(False)
        begun = errno.errorcode[sock.connect_ex((place.server, place.port + 2000))]
        if begun != "EINPROGRESS":
            return [begun]
        told = events(sock, select.POLLIN | select.POLLOUT)
        return [errno.errorcode[option(sock, socket.SO_ERROR)]] if "POLLERR" in told else told


@behaviour(echo)
def a_socket_that_is_refused_and_tries_again(place: Place) -> Report:
    with made(place) as sock:
        sock.setblocking(True)
        refused = attempt(lambda: sock.connect((place.server, place.port + 2000)))
        sock.connect(place.to)
        return [refused, *names(sock, place), *carries(sock)]


@behaviour(echo, options=[(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)])
def a_server_that_shares_its_port(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(echo)
def a_second_connect(place: Place) -> Report:
    with connected(place) as sock:
        return [attempt(lambda: sock.connect(place.to)), *carries(sock)]


@behaviour(echo)
def a_socket_that_is_connected_again(place: Place) -> Report:
    """By AF_UNSPEC, first to a listener of its own."""
    with made(place) as sock, socket.create_server((place.client, 0), family=place.family) as own:
        sock.connect(own.getsockname()[:2])
        unspecified = ctypes.create_string_buffer(28)
        gone = ctypes.CDLL(None).connect(sock.fileno(), unspecified, 28)
        sock.connect(place.to)
        return [gone, *names(sock, place), *carries(sock)]


@behaviour(echo)
def states_of_a_connection(place: Place) -> Report:
    with made(place) as sock:
        states = [state(sock)]
        sock.connect(place.to)
        states.append(state(sock))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)
        return [*states, becomes(sock, {6, 7})]  # TIME_WAIT, which such a socket tells as CLOSE


@behaviour(end_first)
def states_of_a_connection_that_the_server_ends(place: Place) -> Report:
    with connected(place) as sock:
        return [*to_the_end(sock), state(sock)]


@behaviour(echo)
def options_of_a_connection(place: Place) -> Report:
    general = ("SO_TYPE", "SO_DOMAIN", "SO_PROTOCOL", "SO_ACCEPTCONN", "SO_MARK", "SO_PRIORITY",
               "SO_KEEPALIVE", "SO_OOBINLINE", "SO_REUSEADDR", "SO_ERROR")  # fmt: skip
    with connected(place) as sock:
        more = [
            option(sock, one, socket.IPPROTO_TCP)
            for one in (
                socket.TCP_NODELAY,
                socket.TCP_KEEPIDLE,
                socket.TCP_USER_TIMEOUT,
                socket.TCP_SYNCNT,
            )
        ]
        algorithm = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        return [[option(sock, getattr(socket, name)) for name in general], more, algorithm]


@behaviour(echo)
def options_that_are_set(place: Place) -> Report:
    options = {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 7,
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 3,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 5000,
        (socket.IPPROTO_TCP, socket.TCP_QUICKACK): 1,
        (socket.SOL_IP, socket.IP_TOS): 16,
    }
    with made(place) as sock:
        for (level, name), value in options.items():
            sock.setsockopt(level, name, value)
        sock.connect(place.to)
        return [[option(sock, name, level) for level, name in options], *carries(sock)]


@behaviour(echo)
def nobody_tells_an_original_destination(place: Place) -> Report:
    with connected(place) as sock:
        return [attempt(lambda: sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))]


@behaviour(echo)
def a_fast_open(place: Place) -> Report:
    with made(place) as sock:
        sent = sock.sendto(b"hello", socket.MSG_FASTOPEN, place.to)
        return [sent, exactly(sock, 5), *names(sock, place)]


@behaviour(echo, options=[(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)])
def a_fast_open_with_the_first_write(place: Place) -> Report:
    with made(place) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)
        sock.connect(place.to)
        return carries(sock) + names(sock, place)


@behaviour(echo, options=[(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)])
def a_server_that_waits_for_bytes(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(echo)
def a_client_with_mptcp(place: Place) -> Report:
    with made(place, MPTCP) as sock:
        sock.connect(place.to)
        return names(sock, place) + carries(sock)


@behaviour(echo, protocol=MPTCP)
def a_server_with_mptcp(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(echo)
def a_descriptor_that_is_duplicated(place: Place) -> Report:
    with connected(place) as sock, sock.dup() as other:
        sock.close()
        return carries(other) + names(other, place)


@behaviour(to_the_end)
def a_child_that_has_it_as_well(place: Place) -> Report:
    """No end is sent before the last of the two has closed it."""
    with connected(place) as sock:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            sock.send(b"child")
            os._exit(0)
        os.close(reading)
        sock.sendall(b"parent ")
        sock.close()
        os.close(writing)
        return [os.waitpid(child, 0)[1]]


@behaviour(echo)
def many_at_once(place: Place) -> Report:
    """The server accepts one of them; the others are there.

    The first one waits for the server's answer, and so may have a later one's port (README, what differs).
    """
    with contextlib.ExitStack() as exits:
        socks = [exits.enter_context(connected(place)) for _ in range(101)]
        peers = {place.whose(sock.getpeername()) for sock in socks}
        return [peers, len({sock.getsockname()[1] for sock in socks[1:]})]
