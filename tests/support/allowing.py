"""What the tunnel writes for the kernel about direct connections, written by a test. See bpf/maps.h."""

import struct
import sys
from ipaddress import IPv4Address, IPv6Address

from agent.node.state import Cookie
from bpf.layout import pack_address, pack_number
from bpf.maps import Map
from bpf.pins import Pins

IP = IPv4Address | IPv6Address
Endpoint = tuple[IP, int]


class Allowing:
    """The tunnel's side of the maps that are pinned."""

    def __init__(self, pins: Pins) -> None:
        self._direct, self._generation = _map(pins, "direct"), _map(pins, "generation")
        self.announced = _map(pins, "announced")
        self.generation(1)

    def generation(self, number: int) -> None:
        """From now on only what is allowed by this one counts."""
        self._now = number
        self._generation.put(bytes(4), pack_number(number))

    def allow(self, source: Cookie, asked: Endpoint, owner: Cookie, target: Endpoint, client: IP) -> None:
        """Connections of `source` to `asked`, from `client`, go to `target`, which is the pod `owner`'s."""
        head = pack_number(self._now) + pack_number(owner)
        self._direct.put(_pair(source, asked), head + _packed(target) + pack_address(client) + bytes(4))

    def deny(self, source: Cookie, asked: Endpoint) -> None:
        """Not any more."""
        self._direct.delete(_pair(source, asked))


def _map(pins: Pins, name: str) -> Map:
    found = pins.map(name)
    assert found is not None
    return found


def _pair(source: Cookie, asked: Endpoint) -> bytes:
    return source.to_bytes(8, sys.byteorder) + _packed(asked) + bytes(4)


def _packed(endpoint: Endpoint) -> bytes:
    return pack_address(endpoint[0]) + struct.pack("!HH", endpoint[1], 0)
