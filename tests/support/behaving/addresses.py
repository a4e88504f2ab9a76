"""Names, ports, devices, families."""

import socket

from tests.support.behaving.behaviour import TIME, Place, Report, behaviour
from tests.support.behaving.clients import attempt, carries, connected, made, names
from tests.support.behaving.servers import echo, reset, to_the_end, told_its_client

_IP_BIND_ADDRESS_NO_PORT = 24


@behaviour(echo)
def names_of_both_ends(place: Place) -> Report:
    with made(place) as sock:
        before = place.whose(sock.getsockname())
        sock.connect(place.to)
        return [before, *names(sock, place)]


@behaviour(told_its_client)
def names_that_the_server_sees(place: Place) -> Report:
    """Port for port."""
    with connected(place) as sock, sock.makefile() as stream:
        peer, peer_port, own, own_port = stream.readline().split()
        same_port = int(peer_port) == sock.getsockname()[1]
        return [same_port, place.whose((peer, peer_port)), place.whose((own, own_port))]


@behaviour(echo)
def a_client_that_is_bound_to_its_address(place: Place) -> Report:
    with made(place) as sock:
        sock.bind((place.client, 0))
        sock.connect(place.to)
        return names(sock, place) + carries(sock)


@behaviour(echo)
def a_client_that_is_bound_to_a_port(place: Place) -> Report:
    with made(place) as sock:
        sock.bind(("", place.port + 1000))
        sock.connect(place.to)
        return [sock.getsockname()[1] - place.port, *names(sock, place), *carries(sock)]


@behaviour(echo)
def a_client_that_is_bound_to_an_address_without_a_port(place: Place) -> Report:
    with made(place) as sock:
        sock.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((place.client, 0))
        before = sock.getsockname()[1]
        sock.connect(place.to)
        return [before, *names(sock, place)]


@behaviour(echo)
def a_client_that_is_bound_to_a_device(place: Place) -> Report:
    with made(place) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.connect(place.to)
        return names(sock, place) + carries(sock)


@behaviour(echo, device="eth0")
def a_server_that_is_bound_to_a_device(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(echo, own_address=True)
def a_server_that_is_bound_to_its_address(place: Place) -> Report:
    with connected(place) as sock:
        return carries(sock)


@behaviour(echo)
def the_same_port_to_the_same_server(place: Place) -> Report:
    """A connection that there is already, to a server that has answered before."""
    with connected(place) as before, made(place) as sock, made(place) as other:
        carried = carries(before)
        for one in (sock, other):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((place.client, place.port + 1000))
        sock.connect(place.to)
        return [*carried, attempt(lambda: other.connect(place.to))]


@behaviour(echo)
def a_port_again_after_a_reset(place: Place) -> Report:
    with made(place) as sock, made(place) as other:
        for one in (other, sock):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((place.client, place.port + 1000))
        sock.connect(place.to)
        carried = carries(sock)
        reset(sock)
        return [*carried, attempt(lambda: other.connect(place.to))]


@behaviour(to_the_end, bare=True)
def datagrams(place: Place) -> Report:
    with socket.socket(place.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIME)
        sock.connect(place.to)
        sock.send(b"nobody")
        return [*names(sock, place), attempt(lambda: sock.recv(1))]


@behaviour(to_the_end, bare=True)
def a_call_to_its_own_address(place: Place) -> Report:
    with socket.create_server((place.client, 0), family=place.family) as own:
        port = own.getsockname()[1]
        with socket.create_connection((place.client, port), TIME) as sock:
            served, address = own.accept()
            with served:
                served.sendall(b"own")
                ends = [place.whose(one) for one in (address, sock.getpeername(), served.getsockname())]
                return [*ends, sock.recv(3)]


@behaviour(to_the_end, bare=True)
def a_call_to_any_address(place: Place) -> Report:
    """Which is its own."""
    any_address = "::" if place.family == socket.AF_INET6 else "0.0.0.0"
    with (
        socket.create_server((any_address, 0), family=place.family) as own,
        socket.create_connection((any_address, own.getsockname()[1]), TIME) as sock,
    ):
        served, address = own.accept()
        with served:
            served.sendall(b"any")
            return [address[0], sock.getpeername()[0], sock.recv(3)]


@behaviour(to_the_end, bare=True)
def a_connection_to_itself(place: Place) -> Report:
    """Both ends are one socket (RFC 9293, section 3.5: simultaneous open)."""
    with made(place) as sock:
        sock.bind((place.client, place.port + 1000))
        sock.connect((place.client, place.port + 1000))
        return [*names(sock, place), *carries(sock)]


@behaviour(to_the_end, bare=True)
def a_call_to_port_zero(place: Place) -> Report:
    with made(place) as sock:
        return [attempt(lambda: sock.connect((place.server, 0)))]


@behaviour(to_the_end, bare=True)
def a_call_to_its_loopback(place: Place) -> Report:
    loopback = "::1" if place.family == socket.AF_INET6 else "127.0.0.1"
    with (
        socket.create_server((loopback, 0), family=place.family) as own,
        socket.create_connection(own.getsockname()[:2], TIME) as sock,
    ):
        served, address = own.accept()
        with served:
            return [address[0], sock.getpeername()[0], served.getpeername()[0]]


@behaviour(echo)
def an_ipv6_socket_that_calls_ipv4(place: Place) -> Report:
    mapped = place.server if ":" in place.server else f"::ffff:{place.server}"
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(TIME)
        sock.connect((mapped, place.port))
        return names(sock, place) + carries(sock)


@behaviour(echo)
def a_client_that_is_bound_to_a_mapped_address(place: Place) -> Report:
    mapped = [one if ":" in one else f"::ffff:{one}" for one in (place.client, place.server)]
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(TIME)
        sock.bind((mapped[0], 0))
        sock.connect((mapped[1], place.port))
        return names(sock, place) + carries(sock)


@behaviour(echo, dual=True)
def an_ipv6_server_that_ipv4_calls(place: Place) -> Report:
    with connected(place) as sock:
        return names(sock, place) + carries(sock)
