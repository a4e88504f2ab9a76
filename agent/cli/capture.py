"""`warren capture`: a pod's packets as pcapng, on its plain side and on its tunnel side, with identities."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from select import select
from typing import BinaryIO

import click

from agent.cli import pcapng
from agent.cli.command import Command, option
from agent.cli.node import Node, of_node
from agent.cli.output import notes
from agent.cli.pcapng import Interface
from agent.cli.trace import find_pod
from agent.errors import SettingsError
from agent.node.netns import NetnsFd
from protocols.admin import Dump

_ALL = 3  # ETH_P_ALL
_OUTGOING, _LOOPBACK = 4, 772  # packet types and hardware types of <linux/if_packet.h>, <linux/if_arp.h>
_HBONE = 15008
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("pod")
@option("-w", "--file", "path", type=_FILE, envvar=None, help="where to write [default: POD.pcapng]")
@option("--for", "seconds", type=click.FloatRange(0), default=10.0, envvar=None, help="how many seconds")
@option("--packets", type=click.IntRange(1), default=100_000, envvar=None, help="how many at most")
@option("--snap", type=click.IntRange(64, 65535), default=65535, envvar=None, help="bytes of each packet")
@of_node
def capture(
    pod: str,
    *,
    path: Path | None,
    seconds: float,
    packets: int,
    snap: int,
    run_dir: Path,
    tunnel: str,
) -> None:
    """Write POD's packets to a file for Wireshark: what its applications say, and what leaves the node.

    On lo the pod speaks with the tunnel in plain text; on its other interfaces port 15008 is mutual TLS. Each
    packet's comment names both ends, and what carries it. Needs root. Contents of packets are what they are:
    the plain side holds whatever the applications say.

    \b
    Example: warren capture web --for 5 -w web.pcapng
    """
    node = Node(tunnel, run_dir)
    found = find_pod(node, pod)
    names = _names(node.dump())
    target = path or Path(f"{found.name}.pcapng")
    with closing(NetnsFd.open(Path(found.netns))) as netns:
        listening = netns.run(_open)
        with closing(listening), target.open("wb") as out:
            notes([*node.notes, f"capturing {found} for {seconds:g} s"])
            count = _write(out, _packets(listening, seconds, packets), names, snap)
    click.echo(f"wrote {count} packets to {target}")


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    except PermissionError as error:
        raise SettingsError("warren capture reads packets: run it as root (CAP_NET_RAW)") from error


def _packets(listening: socket.socket, seconds: float, most: int) -> Iterator[tuple[bytes, str, bool]]:
    """Each with its interface; on lo only as it arrives, for there it also leaves."""
    end, count = time.monotonic() + seconds, 0
    with suppress(KeyboardInterrupt):
        while (left := end - time.monotonic()) > 0 and count < most:
            if not select([listening], [], [], left)[0]:
                return
            packet, (name, _, kind, hardware, _) = listening.recvfrom(1 << 16)
            if hardware != _LOOPBACK or kind != _OUTGOING:
                yield packet, name, kind == _OUTGOING
                count += 1


def _write(
    out: BinaryIO,
    packets: Iterator[tuple[bytes, str, bool]],
    names: dict[str, str],
    snap: int,
) -> int:
    interfaces: dict[str, int] = {}
    out.write(pcapng.head("warren capture"))
    count = 0
    for packet, name, outgoing in packets:
        if name not in interfaces:
            interfaces[name] = len(interfaces)
            side = "plain: applications and tunnel" if name == "lo" else "the pod's network"
            out.write(pcapng.interface(Interface(name, side, snap)))
        comment = _comment(packet, names)
        out.write(
            pcapng.packet(interfaces[name], time.time_ns(), packet, snap, comment=comment, outgoing=outgoing)
        )
        count += 1
    return count


def _names(dump: Dump | None) -> dict[str, str]:
    """By address, the identity of a captured workload, or the name of another."""
    workloads = dump.workloads if dump else ()
    return {
        address: one.identity if one.tunnel == "HBONE" else f"{one} (not captured)"
        for one in workloads
        for address in one.addresses
    }


def _comment(frame: bytes, names: dict[str, str]) -> str:
    """Who speaks with whom, and through what; empty for what is no TCP."""
    [kind] = struct.unpack_from("!H", frame, 12) if len(frame) >= 14 else (0,)
    if kind == 0x0800 and len(frame) >= 34:
        size, protocol, family = (frame[14] & 15) * 4, frame[23], socket.AF_INET
        source, destination = frame[26:30], frame[30:34]
    elif kind == 0x86DD and len(frame) >= 54:
        size, protocol, family = 40, frame[20], socket.AF_INET6
        source, destination = frame[22:38], frame[38:54]
    else:
        return ""
    if protocol != socket.IPPROTO_TCP or len(frame) < 14 + size + 4:
        return ""
    ports = struct.unpack_from("!HH", frame, 14 + size)
    ends = [socket.inet_ntop(family, octets) for octets in (source, destination)]
    through = "mutual TLS (HBONE), " if _HBONE in ports else ""
    return through + " -> ".join(names.get(end, end) for end in ends)
