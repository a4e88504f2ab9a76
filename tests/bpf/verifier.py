"""How many instructions the verifier walks for each program: it gives up at a million; kernels differ."""

import ctypes
import re
from pathlib import Path

from bpf import libbpf
from bpf.programs import Object

_BPF_LOG_STATS = 4
_BEGIN = re.compile(r"libbpf: prog '(\w+)': -- BEGIN PROG LOAD LOG --")
_WALKED = re.compile(r"processed (\d+) insns")


def walked(path: Path) -> dict[str, int]:
    """By program of an object file, on this kernel. Raises BpfError."""
    program = Object(path)
    for each in libbpf.each("bpf_object__next_program", program._pointer):
        assert libbpf.library().bpf_program__set_log_level(ctypes.c_void_p(each), _BPF_LOG_STATS) == 0
    libbpf.log()
    program.load()
    counts, name = {}, ""
    for line in libbpf.log():
        if begin := _BEGIN.match(line):
            name = begin[1]
        elif counted := _WALKED.match(line):
            counts[name] = int(counted[1])
    return counts
