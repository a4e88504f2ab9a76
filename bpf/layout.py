"""The structs of bpf/maps.h that user space reads and writes, and the numbers that they hold.

A test compares each with the BTF of the object, so that none can differ from what the programs use.
"""

import ctypes
import sys
from ipaddress import IPv4Address, IPv6Address

POD_CAPTURED, POD_PREFIX = 1, 2  # enum pod_flag
PROBE_PORTS = 32  # as many a pod can have
Address = ctypes.c_uint8 * 16
_MAPPED = bytes(10) + b"\xff\xff"


class Pod(ctypes.Structure):
    """struct pod. An address of zeros stands for none."""

    _fields_ = (("flags", ctypes.c_uint32), ("v4", Address), ("v6", Address),
                ("probe_ports", ctypes.c_uint16 * PROBE_PORTS))  # fmt: skip


def pack_address(address: IPv4Address | IPv6Address) -> bytes:
    """16 bytes: IPv6, or IPv4 in its v4-mapped form."""
    return _MAPPED + address.packed if address.version == 4 else address.packed


def unpack_address(raw: bytes) -> IPv4Address | IPv6Address:
    return IPv4Address(raw[12:]) if raw.startswith(_MAPPED) else IPv6Address(raw)


def pack_number(number: int) -> bytes:
    """A netns cookie or a cgroup's id."""
    return number.to_bytes(8, sys.byteorder)


def unpack_number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
