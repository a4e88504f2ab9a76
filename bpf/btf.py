"""Types as the objects and the kernel describe them (BTF): struct layouts and the names of enums."""

import ctypes
import weakref
from dataclasses import dataclass

from bpf.libbpf import call, library, text

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD = 1, 2, 3, 4, 5, 6, 7
_MODIFIERS = (8, 9, 10, 11)  # typedef, volatile, const, restrict
_NO_TYPE = 0


@dataclass(frozen=True)
class Member:
    """A field of a struct; offset and size in bytes."""

    name: str
    offset: int
    size: int


class _Head(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint32), ("info", ctypes.c_uint32), ("type", ctypes.c_uint32))


class _Record(ctypes.Structure):
    """After the head: struct btf_member (name, type, offset in bits) or btf_array (type, index, length)."""

    _fields_ = (("a", ctypes.c_uint32), ("b", ctypes.c_uint32), ("c", ctypes.c_uint32))


class Btf:
    """The types of one object, or of the running kernel. The owner of a borrowed one must outlive it."""

    def __init__(self, pointer: int, *, borrowed: bool = False) -> None:
        self._pointer = pointer
        if not borrowed:
            weakref.finalize(self, library().btf__free, pointer)

    @classmethod
    def of_kernel(cls) -> "Btf":
        return cls(call("btf__load_vmlinux_btf"))

    @classmethod
    def of_loaded(cls, btf_id: int) -> "Btf":
        """The BTF that came with a loaded map or program."""
        return cls(call("btf__load_from_kernel_by_id", btf_id))

    def struct(self, name: str) -> list[Member]:
        """The fields of a struct, in order. Raises OSError(ENOENT) if there is none of this name."""
        return self.members(call("btf__find_by_name_kind", self._pointer, name.encode(), _STRUCT))

    def enum(self, name: str) -> list[tuple[str, int]]:
        """The enumerators and their values, in order. Raises OSError(ENOENT) if there is no such enum."""
        type_id = call("btf__find_by_name_kind", self._pointer, name.encode(), _ENUM)
        _, _, address, length = self._type(type_id)
        pairs = ((ctypes.c_uint32 * 2) * length).from_address(address)
        return [(self._name(name_offset), value) for name_offset, value in pairs]

    def members(self, type_id: int) -> list[Member]:
        """The fields of a struct by its type; none for any other type."""
        kind, _, address, length = self._type(type_id)
        if kind in _MODIFIERS:
            return self.members(self._head(type_id).type)
        if kind != _STRUCT:
            return []
        records = (_Record * length).from_address(address)
        return [Member(self._name(r.a), r.c // 8, self.size(r.b)) for r in records]

    def size(self, type_id: int) -> int:
        """In bytes."""
        return call("btf__resolve_size", self._pointer, type_id)

    def describe(self, type_id: int) -> str:
        """The layout in words that are the same if and only if the layout and its names are the same."""
        if type_id == _NO_TYPE:
            return "void"
        kind, name, address, length = self._type(type_id)
        if kind in _MODIFIERS:
            return self.describe(self._head(type_id).type)
        if kind == _ARRAY:
            array = _Record.from_address(address)
            return f"{self.describe(array.a)}[{array.c}]"
        if kind in (_STRUCT, _UNION):
            records = (_Record * length).from_address(address)
            fields = ";".join(f"{self._name(r.a)}@{r.c}:{self.describe(r.b)}" for r in records)
            return f"struct {name}{{{fields}}}"
        return f"{kind}/{name}/{self.size(type_id)}"

    def _head(self, type_id: int) -> _Head:
        return _Head.from_address(call("btf__type_by_id", self._pointer, type_id))

    def _type(self, type_id: int) -> tuple[int, str, int, int]:
        """Kind, name, where the records are, how many."""
        head = self._head(type_id)
        address = ctypes.addressof(head) + ctypes.sizeof(_Head)
        return head.info >> 24 & 0x1F, self._name(head.name), address, head.info & 0xFFFF

    def _name(self, offset: int) -> str:
        return text("btf__name_by_offset", self._pointer, offset)
