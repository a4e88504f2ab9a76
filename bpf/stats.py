"""How often programs ran in the kernel, and for how long: counted only while somebody wants to know."""

import ctypes
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from bpf.libbpf import call
from bpf.maps import Descriptor, information

_RUN_TIME = 0  # BPF_STATS_RUN_TIME


class _Info(ctypes.Structure):
    """struct bpf_prog_info, up to what is used here."""

    _fields_ = (
        ("before", ctypes.c_uint8 * 192),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
    )


class Runs(NamedTuple):
    """Of one program, on all CPUs."""

    times: int
    seconds: float


@contextmanager
def counting() -> Iterator[None]:
    """Count meanwhile, the programs of the whole machine: each run takes about 50 ns longer.

    Raises OSError: EPERM without CAP_SYS_ADMIN, EINVAL before Linux 5.8.
    """
    with closing(Descriptor(call("bpf_enable_stats", _RUN_TIME))):
        yield


def runs(program: int) -> Runs:
    """Of the program with this descriptor, as far as they were counted."""
    info = _Info()
    information(program, info)
    return Runs(info.run_cnt, info.run_time_ns / 1e9)
