"""Kernel objects by their descriptors: maps, links, and the information that the kernel gives of them."""

import ctypes
import errno
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

from bpf.errors import BpfError
from bpf.libbpf import call

_PERCPU = (5, 6, 10)  # BPF_MAP_TYPE_PERCPU_HASH, _PERCPU_ARRAY, _LRU_PERCPU_HASH


class MapInfo(ctypes.Structure):
    """struct bpf_map_info, up to what is used here."""

    _fields_ = (
        ("type", ctypes.c_uint32), ("id", ctypes.c_uint32), ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32), ("max_entries", ctypes.c_uint32), ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16), ("ifindex", ctypes.c_uint32), ("vmlinux_value_type", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64), ("netns_ino", ctypes.c_uint64), ("btf_id", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32), ("btf_value_type_id", ctypes.c_uint32),
    )  # fmt: skip


class _Cgroup(ctypes.Structure):
    _fields_ = (("cgroup_id", ctypes.c_uint64), ("attach_type", ctypes.c_uint32))


class _Netns(ctypes.Structure):
    _fields_ = (("netns_ino", ctypes.c_uint32), ("attach_type", ctypes.c_uint32))


class _Target(ctypes.Union):
    _fields_ = (("cgroup", _Cgroup), ("netns", _Netns), ("room", ctypes.c_uint64 * 16))


class LinkInfo(ctypes.Structure):
    """struct bpf_link_info; `target` holds what the link is of, and zeros when that is gone."""

    _fields_ = (("type", ctypes.c_uint32), ("id", ctypes.c_uint32), ("prog_id", ctypes.c_uint32),
                ("target", _Target))  # fmt: skip


class Descriptor:
    """Owns a file descriptor; closed with the object."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._closer = weakref.finalize(self, os.close, fd)

    def close(self) -> None:
        self._closer()

    def fileno(self) -> int:
        return self.fd

    def pin(self, path: Path) -> None:
        """Keep the object at `path`, in place of what was there, with no moment between the two."""
        new = path.with_name(path.name + "_new")  # bpffs allows no dot in a name
        new.unlink(missing_ok=True)
        call("bpf_obj_pin", self.fd, os.fsencode(new), place=new)
        new.replace(path)


def pinned(path: Path) -> int | None:
    """A descriptor of what is pinned at `path`; None if nothing is."""
    try:
        return call("bpf_obj_get", os.fsencode(path), place=path)
    except FileNotFoundError:
        return None


def information(fd: int, into: ctypes.Structure) -> None:
    """What the kernel tells of the object with this descriptor."""
    size = ctypes.c_uint32(ctypes.sizeof(into))
    call("bpf_obj_get_info_by_fd", fd, ctypes.byref(into), ctypes.byref(size))


class Link(Descriptor):
    """A program attached to a cgroup or a network namespace, as long as it is open or pinned somewhere."""

    @classmethod
    def create(cls, program: int, target: int, attach_type: int) -> "Link":
        return cls(call("bpf_link_create", program, target, attach_type, None))

    def update(self, program: int) -> None:
        """Put another program in the attached one's place. Raises OSError(ENOLINK) if the target is gone."""
        call("bpf_link_update", self.fd, program, None)

    def detach(self) -> None:
        """At once; the link remains, of nothing. (Closing it detaches the program some time later.)"""
        call("bpf_link_detach", self.fd)

    def info(self) -> LinkInfo:
        info = LinkInfo()
        information(self.fd, info)
        return info


class Map(Descriptor):
    """A map, with keys and values as bytes of the sizes that it was made with."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.info = MapInfo()
        information(fd, self.info)
        self._room = int(self.info.value_size)
        if self.info.type in _PERCPU:  # one value for each CPU
            self._room = -(-self._room // 8) * 8 * call("libbpf_num_possible_cpus")

    def get(self, key: bytes) -> bytes | None:
        """The value, or None; of a per-CPU map the values of all CPUs, each in a multiple of 8 bytes."""
        value = ctypes.create_string_buffer(self._room)
        try:
            call("bpf_map_lookup_elem", self.fd, self._key(key), value)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def put(self, key: bytes, value: bytes) -> None:
        """Raises BpfError when the map is full."""
        if len(value) != self.info.value_size:
            raise ValueError(f"map {self.name}: a value has {self.info.value_size} bytes, not {len(value)}")
        try:
            call("bpf_map_update_elem", self.fd, self._key(key), value, 0)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise BpfError(f"map {self.name} is full: {self.info.max_entries} entries at most") from error

    def delete(self, key: bytes) -> None:
        """Remove an entry, if it is there."""
        try:
            call("bpf_map_delete_elem", self.fd, self._key(key))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def __iter__(self) -> Iterator[bytes]:
        """All keys. The one last given must stay in the map until the next is taken."""
        key, following = None, ctypes.create_string_buffer(int(self.info.key_size))
        while True:
            try:
                call("bpf_map_get_next_key", self.fd, key, following)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            key = following.raw
            yield key

    def items(self) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key in list(self) if (value := self.get(key)) is not None]

    @property
    def name(self) -> str:
        return bytes(self.info.name).decode()

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.info.key_size:
            raise ValueError(f"map {self.name}: a key has {self.info.key_size} bytes, not {len(key)}")
        return key
