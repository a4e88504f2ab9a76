"""Files of packets in pcapng (draft-ietf-opsawg-pcapng), which Wireshark and tcpdump read."""

import struct
from typing import NamedTuple

_ETHERNET = 1
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _NAME, _DESCRIPTION, _FLAGS, _RESOLUTION = 1, 2, 3, 2, 9
_NANOSECONDS = 9  # ten to the minus


class Interface(NamedTuple):
    """snap: bytes that are kept of each packet."""

    name: str
    description: str
    snap: int


def head(program: str) -> bytes:
    """The first block: of a file, and who writes it."""
    return _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), [(4, program.encode())])


def interface(of: Interface) -> bytes:
    """The next one; packets name it by its number from 0."""
    options = [
        (_NAME, of.name.encode()),
        (_DESCRIPTION, of.description.encode()),
        (_RESOLUTION, bytes([_NANOSECONDS])),
    ]
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, of.snap), options)


def packet(number: int, at: int, data: bytes, snap: int, *, comment: str, outgoing: bool) -> bytes:
    """A packet of an interface. at: nanoseconds since 1970; comment: may be empty."""
    kept = data[:snap]
    body = struct.pack("<IIIII", number, at >> 32, at & 0xFFFFFFFF, len(kept), len(data)) + _padded(kept)
    options = [(_FLAGS, struct.pack("<I", 2 if outgoing else 1))]
    if comment:
        options.append((_COMMENT, comment.encode()))
    return _block(_PACKET, body, options)


def _block(kind: int, body: bytes, options: list[tuple[int, bytes]]) -> bytes:
    texts = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    content = body + texts + b"\0\0\0\0"
    length = struct.pack("<I", len(content) + 12)
    return struct.pack("<I", kind) + length + content + length


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
