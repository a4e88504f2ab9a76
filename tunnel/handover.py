"""What the keeper of a node's listeners and the generations of its tunnel tell each other.

A generation is one process that carries connections. Packets over `keeper.sock` in the run directory, JSON,
with descriptors; only processes of the same user are heard. The sides may be of different builds: unknown
fields and kinds are passed over. Where that does not do, VERSION is raised: a generation of another one keeps
what it listens on for itself, and `retire` is all that a keeper says to it.

    generation -> keeper
        hello       who it is, how far, and VERSION, first of all; `kept` follows for what it listens on
        kept        listeners that it uses; with their descriptors
        closed      a network namespace in which it listens no more
        ready       it knows all that a tunnel has to know
        serving     it accepts connections; all that was kept before its `kept` is of no more use
        retired     it accepts no more connections
        open        how many connections are left, and what it costs
    keeper -> generation
        output      where to write its log from now on; with two descriptors
        left        listeners of the generation before; with their descriptors
        serve       accept connections; `alone`: nobody has before
        retire      accept no more, and end with the last one
        others      all generations, for reports
    keeper -> keeper
        take_over   let the generations go to the keeper that asks
"""

import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.report import Generation, Stage
from tunnel.packets import PacketError

VERSION = 1
DESCRIPTORS = 250  # the kernel takes 253 with one packet
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid

# The inode of a network namespace, and a port.
Place = tuple[int, int]


def generation(fields: dict[str, Any]) -> Generation:
    """What a generation tells of itself. Raises PacketError."""
    try:
        known = {name: fields[name] for name in Generation.__dataclass_fields__ if name in fields}
        return Generation(**{**known, "stage": Stage(known["stage"])})
    except (KeyError, TypeError, ValueError) as error:
        raise PacketError(f"a generation that makes no sense: {error}") from error


@dataclass(frozen=True)
class Places:
    """The files by which they find each other."""

    directory: Path

    @property
    def socket(self) -> Path:
        return self.directory / "keeper.sock"

    @property
    def lock(self) -> Path:
        """Held by the keeper; holds the number of the last generation."""
        return self.directory / "keeper.lock"

    def generation(self, number: int) -> Path:
        """Held by that generation."""
        return self.directory / f"tunnel-{number}.lock"

    def metrics(self, number: int) -> Path:
        """What that generation has counted, once it serves no more."""
        return self.directory / f"tunnel-{number}.metrics"

    def generations(self) -> list[Path]:
        return sorted(self.directory.glob("tunnel-*.lock"))


def send(
    connection: socket.socket, kind: str, fields: dict[str, Any] | None = None, fds: Sequence[int] = ()
) -> None:
    """Send one message. Raises OSError."""
    packet = json.dumps({"is": kind, **(fields or {})}).encode()
    socket.send_fds(connection, [packet], fds)


def send_listeners(connection: socket.socket, kind: str, listeners: Sequence[tuple[Place, int]]) -> None:
    """Send listeners by where they are, in as many messages as it takes. Raises OSError."""
    for first in range(0, len(listeners), DESCRIPTORS):
        some = listeners[first : first + DESCRIPTORS]
        send(connection, kind, {"places": [place for place, _ in some]}, [fd for _, fd in some])


def decode(packet: bytes) -> tuple[str, dict[str, Any]]:
    """The kind of a message, and its fields. Raises PacketError."""
    try:
        fields = json.loads(packet)
        return str(fields.pop("is")), fields
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PacketError(f"a message that makes no sense: {error}") from error


def listeners_of(fields: dict[str, Any], fds: Sequence[int]) -> list[tuple[Place, int]]:
    """What `send_listeners` has sent. Raises PacketError."""
    places = fields.get("places", ())
    if len(places) != len(fds):
        raise PacketError(f"{len(places)} listeners came with {len(fds)} descriptors")
    return [((int(netns), int(port)), fd) for (netns, port), fd in zip(places, fds, strict=True)]


def is_one_of_us(connection: socket.socket) -> bool:
    """Whether the other end is a process of the same user."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.geteuid())
