"""What is on the wire between two nodes: packets, their TCP byte streams, the TLS records in these."""

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from agent.lab import kernel

_ETH_P_ALL = 3
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_LARGEST = 1 << 18  # a veth carries segments that were never cut to the size of a packet
_BUFFER = 64 << 20
_TLS_TYPES = {20: "change_cipher_spec", 21: "alert", 22: "handshake", 23: "application_data"}
_TLS_LONGEST = (1 << 14) + 256  # RFC 8446 section 5.2


class Flow(NamedTuple):
    """One direction of a TCP connection; addresses as text."""

    source: str
    source_port: int
    destination: str
    destination_port: int


class _Segment(NamedTuple):
    flow: Flow
    sequence: int
    payload: bytes


@dataclass(frozen=True)
class Traffic:
    """TCP payload by direction of a connection, in the order of its sequence numbers."""

    streams: dict[Flow, bytes]

    def containing(self, text: bytes) -> list[Flow]:
        return [flow for flow, stream in self.streams.items() if text in stream]

    def plain(self) -> list[Flow]:
        """Those of which not every byte belongs to a TLS record."""
        return [flow for flow, stream in self.streams.items() if stream and records(stream) is None]

    def records(self) -> dict[str, int]:
        """How many TLS records there are of which type, in all streams that hold nothing else."""
        total: dict[str, int] = {}
        for stream in self.streams.values():
            for name, count in (records(stream) or {}).items():
                total[name] = total.get(name, 0) + count
        return total


def records(stream: bytes) -> dict[str, int] | None:
    """TLS records by type in a stream that begins with one; None when something else is in it.

    The last record may not be there to its end.
    """
    found: dict[str, int] = {}
    at = 0
    while at < len(stream):
        if len(stream) - at < 5:
            break
        kind, major, _, length = struct.unpack_from("!BBBH", stream, at)
        if kind not in _TLS_TYPES or major != 3 or length > _TLS_LONGEST:
            return None
        found[_TLS_TYPES[kind]] = found.get(_TLS_TYPES[kind], 0) + 1
        at += 5 + length
    return found


class Capture:
    """Captures on a link of a network namespace while its `with` block runs; then `traffic` is there.

    Raises OSError when there is no such namespace or link.
    """

    def __init__(self, netns: Path, link: str) -> None:
        self._packets: list[bytes] = []
        self.traffic = Traffic({})

        def open_socket() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                sock.bind((link, _ETH_P_ALL))
            except OSError:
                sock.close()
                raise
            return sock

        self._socket = kernel.in_netns(netns, open_socket)
        self._socket.settimeout(0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="capture")

    def __enter__(self) -> "Capture":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self.traffic = _assemble(filter(None, map(_parse, self._packets)))

    def _read(self) -> None:
        """Until told to stop, and then until nothing more is there."""
        while True:
            try:
                self._packets.append(self._socket.recv(_LARGEST))
            except TimeoutError:
                if self._stop.is_set():
                    return


def _parse(frame: bytes) -> _Segment | None:
    """The TCP payload of an Ethernet frame; None for a frame without any."""
    kind, rest = struct.unpack_from("!H", frame, 12)[0], frame[14:]
    if kind == _ETH_P_IP:
        head, length, protocol = (rest[0] & 15) * 4, struct.unpack_from("!H", rest, 2)[0], rest[9]
        addresses = rest[12:16], rest[16:20]
        end = length or len(rest)
    elif kind == _ETH_P_IPV6:
        head, protocol = 40, rest[6]
        addresses = rest[8:24], rest[24:40]
        end = struct.unpack_from("!H", rest, 4)[0] + 40
        end = end if end > 40 else len(rest)
    else:
        return None
    if protocol != socket.IPPROTO_TCP:
        return None
    source, destination, sequence = struct.unpack_from("!HHI", rest, head)
    start = head + (rest[head + 12] >> 4) * 4
    own, peer = (str(ip_address(address)) for address in addresses)
    segment = _Segment(Flow(own, source, peer, destination), sequence, rest[start:end])
    return segment if segment.payload else None


def _assemble(segments: Iterator[_Segment]) -> Traffic:
    """Put streams together; what was sent twice counts once. A veth loses nothing, so there are no gaps."""
    flows: dict[Flow, list[_Segment]] = {}
    for segment in segments:
        flows.setdefault(segment.flow, []).append(segment)
    streams = {}
    for flow, parts in flows.items():
        first = parts[0].sequence
        stream = b""
        for part in sorted(parts, key=lambda part: (part.sequence - first) % (1 << 32)):
            offset = (part.sequence - first) % (1 << 32)
            stream += part.payload[max(0, len(stream) - offset) :]
        streams[flow] = stream
    return Traffic(streams)
