"""Where the kernel's own structures have their fields, by BTF (Documentation/bpf/btf.rst)."""

import struct
from collections.abc import Iterator
from pathlib import Path

KERNEL = Path("/sys/kernel/btf/vmlinux")
_MAGIC = 0xEB9F
_STRUCT, _UNION = 4, 5
# Bytes behind a type's head: fixed, and for each of its members.
_SIZES = {
    1: (4, 0), 2: (0, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 7: (0, 0), 8: (0, 0), 9: (0, 0),
    10: (0, 0), 11: (0, 0), 12: (0, 0), 13: (0, 8), 14: (4, 0), 15: (0, 12), 16: (0, 0), 17: (4, 0),
    18: (0, 0), 19: (0, 12),
}  # fmt: skip


class Btf:
    """The types of a kernel. Raises OSError, ValueError."""

    def __init__(self, path: Path = KERNEL) -> None:
        self._data = data = path.read_bytes()
        magic, _, _, head, types, types_length, texts, _ = struct.unpack_from("<HBBIIIII", data)
        if magic != _MAGIC:
            raise ValueError(f"{path} is no BTF")
        self._texts = head + texts
        self._at = [0]  # by type id, of which 0 is void
        at, end = head + types, head + types + types_length
        while at < end:
            self._at.append(at)
            info = struct.unpack_from("<I", data, at + 4)[0]
            fixed, each = _SIZES[info >> 24 & 0x1F]
            at += 12 + fixed + each * (info & 0xFFFF)

    def offset(self, name: str, field: str) -> int:
        """Bytes from the beginning of a structure to a field, through those that are anonymous.

        Raises ValueError where there is none.
        """
        wanted = name.encode() + b"\0"
        for at in self._at[1:]:
            text, info = struct.unpack_from("<II", self._data, at)
            if info >> 24 & 0x1F == _STRUCT and self._data.startswith(wanted, self._texts + text):
                found = self._find(at, field)
                if found is not None:
                    return found
        raise ValueError(f"the kernel has no {name}.{field}")

    def _find(self, at: int, field: str) -> int | None:
        for text, kind, bits in self._members(at):
            if text == field:
                return bits // 8
            inner = self._at[kind]
            if not text and self._kind(inner) in (_STRUCT, _UNION):
                deeper = self._find(inner, field)
                if deeper is not None:
                    return bits // 8 + deeper
        return None

    def _kind(self, at: int) -> int:
        info: int = struct.unpack_from("<I", self._data, at + 4)[0]
        return info >> 24 & 0x1F

    def _members(self, at: int) -> Iterator[tuple[str, int, int]]:
        """Name, type and offset in bits."""
        info = struct.unpack_from("<I", self._data, at + 4)[0]
        flagged = info >> 31
        for place in range(at + 12, at + 12 + 12 * (info & 0xFFFF), 12):
            text, kind, offset = struct.unpack_from("<III", self._data, place)
            yield self._text(text), kind, offset & 0xFFFFFF if flagged else offset

    def _text(self, at: int) -> str:
        begin = self._texts + at
        return self._data[begin : self._data.index(b"\0", begin)].decode()
