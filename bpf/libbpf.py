"""The functions of libbpf.so.1 that this project calls, by ctypes. Nothing here knows what the programs do.

Failures are OSErrors with the kernel's errno; `log()` has what libbpf and the verifier said meanwhile.
"""

import ctypes
import logging
import os
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bpf.errors import BpfError

logger = logging.getLogger(__name__)

_P, _I, _U, _S, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_file": (_P, (_S, _P)),
    "bpf_object__load": (_I, (_P,)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__btf": (_P, (_P,)),
    "bpf_object__next_map": (_P, (_P, _P)),
    "bpf_object__next_program": (_P, (_P, _P)),
    "bpf_map__name": (_S, (_P,)),
    "bpf_map__fd": (_I, (_P,)),
    "bpf_map__reuse_fd": (_I, (_P, _I)),
    "bpf_map__type": (_I, (_P,)),
    "bpf_map__key_size": (_U, (_P,)),
    "bpf_map__value_size": (_U, (_P,)),
    "bpf_map__max_entries": (_U, (_P,)),
    "bpf_map__map_flags": (_U, (_P,)),
    "bpf_map__btf_key_type_id": (_U, (_P,)),
    "bpf_map__btf_value_type_id": (_U, (_P,)),
    "bpf_program__name": (_S, (_P,)),
    "bpf_program__fd": (_I, (_P,)),
    "bpf_program__expected_attach_type": (_I, (_P,)),
    "bpf_map_lookup_elem": (_I, (_I, _P, _P)),
    "bpf_map_update_elem": (_I, (_I, _P, _P, ctypes.c_uint64)),
    "bpf_map_delete_elem": (_I, (_I, _P)),
    "bpf_map_get_next_key": (_I, (_I, _P, _P)),
    "bpf_obj_pin": (_I, (_I, _S)),
    "bpf_obj_get": (_I, (_S,)),
    "bpf_obj_get_info_by_fd": (_I, (_I, _P, _P)),
    "bpf_link_create": (_I, (_I, _I, _I, _P)),
    "bpf_link_detach": (_I, (_I,)),
    "bpf_link_update": (_I, (_I, _I, _P)),
    "bpf_prog_get_fd_by_id": (_I, (_U,)),
    "bpf_enable_stats": (_I, (_I,)),
    "btf__load_from_kernel_by_id": (_P, (_U,)),
    "btf__load_vmlinux_btf": (_P, ()),
    "btf__free": (None, (_P,)),
    "btf__type_by_id": (_P, (_P, _U)),
    "btf__name_by_offset": (_S, (_P, _U)),
    "btf__find_by_name_kind": (_I, (_P, _S, _U)),
    "btf__resolve_size": (ctypes.c_int64, (_P, _U)),
    "libbpf_num_possible_cpus": (_I, ()),
    "libbpf_probe_bpf_prog_type": (_I, (_I, _P)),
    "libbpf_probe_bpf_map_type": (_I, (_I, _P)),
    "libbpf_probe_bpf_helper": (_I, (_I, _I, _P)),
}
_Print = ctypes.CFUNCTYPE(_I, _I, _S, _P)
_spoken: deque[str] = deque(maxlen=2000)


@cache
def library() -> ctypes.CDLL:
    """libbpf, loaded once. Raises BpfError, saying what to install, when it is not there."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise BpfError("libbpf.so.1 is missing: apt-get install libbpf1") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(_listener)
    return lib


def call(name: str, *arguments: Any, place: Path | None = None) -> int:
    """Call a function that gives an int; a negative one, or a null pointer, becomes an OSError.

    place: the file that is meant, which the error names.
    """
    result = getattr(library(), name)(*arguments)
    if result is None and _FUNCTIONS[name][0] is _P:
        raise _os_error(ctypes.get_errno(), name, place)
    if isinstance(result, int) and result < 0:
        raise _os_error(-result, name, place)
    return 0 if result is None else int(result)


def text(name: str, *arguments: Any) -> str:
    """Call a function that gives a string."""
    result = getattr(library(), name)(*arguments)
    return "" if result is None else bytes(result).decode()


def each(name: str, owner: int) -> Iterator[int]:
    """All pointers that a `..._next_...` function of libbpf gives."""
    function = getattr(library(), name)
    item = function(owner, None)
    while item:
        yield int(item)
        item = function(owner, item)


def log() -> list[str]:
    """What libbpf said since the last call, a line each: its own words and the verifier's."""
    library().libbpf_set_print(_listener)  # another library in this process may listen instead
    lines = list(_spoken)
    _spoken.clear()
    return lines


def _os_error(code: int, where: str, place: Path | None) -> OSError:
    reason = f"{where}: {os.strerror(code)}"
    return OSError(code, reason, str(place)) if place else OSError(code, reason)


def _listen(_level: int, form: bytes, arguments: int) -> int:
    """libbpf's log. `arguments` is a va_list, which both supported machines pass as a pointer."""
    buffer = ctypes.create_string_buffer(1 << 16)
    _vsnprintf(buffer, len(buffer), form, arguments)
    for line in buffer.value.decode(errors="replace").splitlines():
        logger.debug("%s", line)
        _spoken.append(line)
    return 0


_listener = _Print(_listen)  # libbpf keeps only its address


_libc = ctypes.CDLL(None, use_errno=True)
_vsnprintf = _libc.vsnprintf
_vsnprintf.argtypes = (_S, _Z, _S, _P)
