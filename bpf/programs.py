"""The object file that clang made: opened, joined to maps that are in the kernel already, loaded."""

import hashlib
import os
import weakref
from dataclasses import dataclass, fields
from pathlib import Path

from bpf import libbpf
from bpf.btf import Btf
from bpf.errors import BpfError
from bpf.libbpf import call, each, library, text
from bpf.maps import Map

OBJECT = Path(__file__).with_name("redirect.bpf.o")
COOKIE = Path(__file__).with_name("cookie.bpf.o")
# An enum of this name numbers the entries of a map; its names are part of that map's layout.
_ENUMS = {"verdicts": "verdict"}
_WITHOUT_BTF = (18, 27)  # BPF_MAP_TYPE_SOCKHASH and _RINGBUF: the kernel keeps no BTF of them


@dataclass(frozen=True)
class Layout:
    """All that two maps must have in common to be the same map for every program."""

    types: str  # keys and values in words, from BTF; empty for maps that the kernel keeps no BTF of
    type: int
    max_entries: int
    map_flags: int
    key_size: int
    value_size: int


_SIZES = [field.name for field in fields(Layout) if field.type is int]


class Object:
    """An object file. Its programs and maps are in the kernel after `load`, for as long as they are used."""

    def __init__(self, path: Path = OBJECT) -> None:
        if not path.is_file():
            raise BpfError(f"{path} is missing: make -C {path.parent}")
        self.path = path
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]  # tells one build from another
        self._pointer = _tell(f"{path} cannot be read", "bpf_object__open_file", os.fsencode(path), None)
        weakref.finalize(self, library().bpf_object__close, self._pointer)
        maps = each("bpf_object__next_map", self._pointer)
        self._maps = {text("bpf_map__name", item): item for item in maps}
        programs = each("bpf_object__next_program", self._pointer)
        self._programs = {text("bpf_program__name", item): item for item in programs}
        self.btf = Btf(call("bpf_object__btf", self._pointer), borrowed=True)

    @property
    def maps(self) -> list[str]:
        return list(self._maps)

    @property
    def programs(self) -> list[str]:
        return list(self._programs)

    def layout(self, name: str) -> Layout:
        item = self._maps[name]
        sizes = {size: call(f"bpf_map__{size}", item) for size in _SIZES}
        key, value = (call(f"bpf_map__btf_{what}_type_id", item) for what in ("key", "value"))
        return Layout("" if sizes["type"] in _WITHOUT_BTF else _types(self.btf, name, key, value), **sizes)

    def value_type(self, name: str) -> int:
        """The BTF id of the values of a map."""
        return call("bpf_map__btf_value_type_id", self._maps[name])

    def adopt(self, name: str, present: Map) -> None:
        """Use a map of the kernel's instead of a new one. It must have the same layout; before `load`."""
        call("bpf_map__reuse_fd", self._maps[name], present.fd)

    def load(self) -> None:
        """Give programs and maps to the kernel. Raises BpfError with what the verifier said last."""
        _tell(f"the kernel refuses {self.path.name}", "bpf_object__load", self._pointer)

    def map(self, name: str) -> Map:
        return Map(os.dup(call("bpf_map__fd", self._maps[name])))

    def program(self, name: str) -> int:
        """The program's descriptor, which lives as long as this object."""
        return call("bpf_program__fd", self._programs[name])

    def attach_type(self, name: str) -> int:
        return call("bpf_program__expected_attach_type", self._programs[name])


def layout_of(present: Map, name: str) -> Layout:
    """The layout of a map that is in the kernel."""
    info = present.info
    types = ""
    if info.btf_id:
        types = _types(Btf.of_loaded(info.btf_id), name, info.btf_key_type_id, info.btf_value_type_id)
    return Layout(types, **{size: getattr(info, size) for size in _SIZES})


def _types(btf: Btf, name: str, key: int, value: int) -> str:
    names = btf.enum(_ENUMS[name]) if name in _ENUMS else ""
    return f"{btf.describe(key)} -> {btf.describe(value)} {names}"


def _tell(what: str, function: str, *arguments: object) -> int:
    libbpf.log()
    try:
        return call(function, *arguments)
    except OSError as error:
        raise BpfError(f"{what}: {os.strerror(error.errno or 0)}{_reason(libbpf.log())}") from error


def _reason(lines: list[str]) -> str:
    """The program that failed and the verifier's last word on it, out of a log of a thousand lines."""
    failed = next((line for line in lines if "load failed" in line or "failed to" in line), "")
    program = failed.split("'")[1] if failed.count("'") >= 2 else ""
    verifier = [line for line in lines if line and not line.startswith(("libbpf:", "processed ", "-- "))]
    words = ": ".join(filter(None, (program, verifier[-1] if verifier else failed.removeprefix("libbpf: "))))
    return f" ({words})" if words else ""
