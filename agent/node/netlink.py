"""Netlink without a library: one is slow to import, and slow where all pods are looked at again and again."""

import os
import socket
import struct
import sys
from collections.abc import Iterator

ROUTE, SOCK_DIAG = 0, 4  # families
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400  # how something is made
_REQUEST_DUMP, _REQUEST_ACK = 0x301, 0x5
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _STRICT = 270, 12
_ROOM = 1 << 16  # the kernel's answers come in pieces of half of it at most
_HEAD = struct.Struct("=IHHII")


def dump(family: int, kind: int, request: bytes) -> Iterator[bytes]:
    """The messages that answer, without their heads, of the calling thread's namespace. Raises OSError.

    The kernel leaves out what does not fit the request, where it knows how.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as sock:
        sock.setsockopt(_SOL_NETLINK, _STRICT, 1)
        sock.send(_HEAD.pack(_HEAD.size + len(request), kind, _REQUEST_DUMP, 1, 0) + request)
        while True:
            data, at = sock.recv(_ROOM), 0
            while at < len(data):
                length, what, *_ = _HEAD.unpack_from(data, at)
                body = data[at + _HEAD.size : at + length]
                if what in (_DONE, _ERROR):
                    if error := -int(struct.unpack_from("=i", body)[0]):
                        raise OSError(error, os.strerror(error))
                    return
                yield body
                at += length + 3 & ~3


def change(family: int, kind: int, request: bytes, how: int = 0) -> None:
    """Have the kernel do it in the calling thread's namespace. Raises OSError, as the kernel refuses it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as sock:
        sock.send(_HEAD.pack(_HEAD.size + len(request), kind, _REQUEST_ACK | how, 1, 0) + request)
        if error := -int(struct.unpack_from("=i", sock.recv(_ROOM), _HEAD.size)[0]):
            raise OSError(error, os.strerror(error))


def attribute(kind: int, value: int | bytes) -> bytes:
    """One of a message; a number has 32 bits."""
    raw = value.to_bytes(4, sys.byteorder) if isinstance(value, int) else value
    return struct.pack("=HH", 4 + len(raw), kind) + raw + bytes(-len(raw) % 4)


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Those of a message, by their types; they begin behind the fixed part."""
    found = {}
    while at < len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        found[kind] = body[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def number(raw: bytes | None) -> int:
    """0 where the attribute is absent."""
    return int.from_bytes(raw or b"", sys.byteorder)
