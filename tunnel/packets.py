"""Packets with descriptors over Unix SEQPACKET sockets: one message each, none of them halved."""

import array
import os
import socket

from tunnel.readable import readable

LARGEST = 64 * 1024


class PacketError(Exception):
    """A packet that is too large, or makes no sense; the text is for the log."""


def received(connection: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """The packet that is there, with its descriptors, which are the caller's to close; nothing at the end.

    most: descriptors that there is room for. Raises PacketError, OSError; BlockingIOError when none is there.
    """
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(most * descriptors.itemsize)
    packet, ancillary, flags, _ = connection.recvmsg(LARGEST, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise PacketError(f"a packet of more than {LARGEST} bytes or {most} descriptors")
    return packet, list(descriptors)


async def receive(connection: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """The same of a socket that does not block: waits for a packet."""
    while True:
        try:
            return received(connection, most)
        except BlockingIOError:
            with readable(connection) as packet:
                await packet.wait()
