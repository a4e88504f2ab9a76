"""Files of packets, block by block as the draft has them (draft-ietf-opsawg-pcapng)."""

import struct
from collections.abc import Iterator

from agent.cli import pcapng
from agent.cli.capture import _comment
from agent.cli.pcapng import Interface

SYN = bytes.fromhex(
    "020000000001020000000002 0800 4500002800000000 4006 0000 0a000001 0a000002 c350 3aa0 0000000000000000"
)
ENDS6 = bytes(15) + b"\1" + bytes(15) + b"\2"
SYN6 = bytes(12) + bytes.fromhex("86dd 60000000 0014 06 40") + ENDS6 + bytes(20)


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each; both of a block's lengths are the same."""
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0 and data[length - 4 : length] == struct.pack("<I", length)
        yield kind, data[8 : length - 4]
        data = data[length:]


def options(data: bytes) -> dict[int, bytes]:
    found = {}
    while data[:2] != b"\0\0":
        code, length = struct.unpack_from("<HH", data)
        found[code] = data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]
    return found


def test_a_file_has_its_head_its_interfaces_and_packets_with_comments() -> None:
    data = pcapng.head("warren") + pcapng.interface(Interface("lo", "plain", 60))
    data += pcapng.packet(0, 2**40 + 7, b"x" * 61, 60, comment="a -> b", outgoing=True)
    (first, head), (second, interface), (third, packet) = blocks(data)
    assert (first, second, third) == (0x0A0D0D0A, 1, 6)
    assert head[:4] == bytes.fromhex("4d3c2b1a") and options(head[16:])[4] == b"warren"
    assert struct.unpack_from("<HHI", interface) == (1, 0, 60)
    assert options(interface[8:]) == {2: b"lo", 3: b"plain", 9: b"\x09"}
    assert struct.unpack_from("<IIIII", packet) == (0, 2**8, 7, 60, 61)
    assert packet[20:80] == b"x" * 60
    assert options(packet[80:]) == {2: struct.pack("<I", 2), 1: b"a -> b"}


def test_comments_name_both_ends_and_what_carries_them() -> None:
    names = {"10.0.0.1": "spiffe://c/ns/a/sa/b", "::2": "default/x (not captured)"}
    assert _comment(SYN, names) == "mutual TLS (HBONE), spiffe://c/ns/a/sa/b -> 10.0.0.2"
    assert _comment(SYN6, names) == "::1 -> default/x (not captured)"
    for other in (b"", SYN[:20], SYN[:23] + b"\x11" + SYN[24:], b"\0" * 60):
        assert _comment(other, names) == ""
