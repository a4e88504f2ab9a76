"""What the kernel holds, read from its maps and links. Changes nothing, and needs no agent to run."""

import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NewType, TypeAlias

from bpf.btf import Btf
from bpf.layout import POD_CAPTURED, Pod, pack_number, unpack_address, unpack_number
from bpf.maps import Map
from bpf.pins import Pins

# The number by which the kernel knows a network namespace, and Warren the pod in it.
Cookie = NewType("Cookie", int)
Address: TypeAlias = IPv4Address | IPv6Address

BOUNDED = (1, 18)  # BPF_MAP_TYPE_HASH, _SOCKHASH: they refuse what finds no room, as LRU maps do not


@dataclass(frozen=True)
class PodState:
    """A pod as the kernel treats it."""

    addresses: tuple[Address, ...]
    redirected: bool  # what it connects to goes to the tunnel
    netns: int  # inode of the namespace in which what arrives is steered; 0: none, or it is gone
    listener: int  # cookie of the tunnel's socket that takes what arrives in the clear; 0: none
    probe_ports: tuple[int, ...] = ()  # which the kubelet reaches in the clear

    @property
    def listening(self) -> bool:
        return self.listener != 0

    @property
    def captured(self) -> bool:
        """Both ways."""
        return self.redirected and self.netns != 0


def pods(pins: Pins, maps: dict[str, Map], cookies: Iterable[Cookie] | None = None) -> dict[Cookie, PodState]:
    """The pods that are known to the kernel, captured or not: all, or those of `cookies`."""
    addresses: dict[int, list[Address]] = {}
    for address, owner in maps["addresses"].items():
        addresses.setdefault(unpack_number(owner), []).append(unpack_address(address))

    def state(cookie: Cookie, key: bytes, pod: Pod) -> PodState:
        link = pins.pod(cookie)
        return PodState(
            addresses=tuple(sorted(addresses.get(cookie, ()), key=lambda a: (a.version, a.packed))),
            redirected=bool(pod.flags & POD_CAPTURED),
            netns=link.info().target.netns.netns_ino if link else 0,
            listener=unpack_number(maps["listeners"].get(key) or b""),
            probe_ports=tuple(port for port in pod.probe_ports if port),
        )

    if cookies is None:
        cookies = [Cookie(unpack_number(key)) for key in maps["pods"]]
    keys = {cookie: pack_number(cookie) for cookie in cookies}
    return {
        cookie: state(cookie, key, Pod.from_buffer_copy(value))
        for cookie, key in keys.items()
        if (value := maps["pods"].get(key))
    }


def fill(one: Map) -> tuple[int, int]:
    """The entries of a map, and how many there can be."""
    most = int(one.info.max_entries)
    return sum(1 for _ in itertools.islice(one, most)), most  # which begins anew where its entry is deleted


def verdicts(counters: Map) -> dict[str, int]:
    """How often each verdict was given since the counters were made, by the loaded programs' own names."""
    names = Btf.of_loaded(counters.info.btf_id).enum("verdict")
    totals = {}
    for name, index in names[: int(counters.info.max_entries)]:
        per_cpu = counters.get(index.to_bytes(4, sys.byteorder)) or b""
        totals[name.lower()] = sum(unpack_number(per_cpu[at : at + 8]) for at in range(0, len(per_cpu), 8))
    return totals
