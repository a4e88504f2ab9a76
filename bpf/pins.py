"""The programs, maps and links in the kernel, kept in a directory of a bpffs beyond a process.

    DIR/maps/NAME       every map
    DIR/links/NAME      every program that is attached to the cgroup
    DIR/pods/COOKIE     the `sk_lookup` program, attached to one pod's network namespace
    DIR/build/DIGEST    an empty directory, made last: all of this is from the object file with this digest

A start always loads the programs anew and puts them, one atomic step each, in the place of those that are
attached; so it does not matter which version ran before, nor how far that one came. Maps are taken over where
their layout is the same. A pod that is captured stays captured throughout.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from bpf.btf import Btf
from bpf.errors import BpfError
from bpf.maps import Link, Map, pinned
from bpf.programs import Object, layout_of

# User space cannot put sockets back into these: in every version they have the layout that they always had.
KEPT = ("listeners", "device_listeners", "tunnel_ports", "announcing")
# What the agent wrote is carried over into a new layout, field by field of the same name and size.
CARRIED = ("pods", "addresses", "tunnels", "kubelets")
INBOUND = "inbound"
# What hands destinations over is replaced before what captures.
_FIRST = ("tcp_event", "getsockopt", "bind4", "bind6", "recvmsg4", "recvmsg6")


class Pins:
    """What is pinned in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def map(self, name: str) -> Map | None:
        fd = pinned(self.directory / "maps" / name)
        return None if fd is None else Map(fd)

    def links(self) -> dict[str, Link]:
        """The links to the cgroup, by the names of their programs."""
        return {path.name: link for path in _entries(self.directory / "links") if (link := _link(path))}

    def pods(self) -> dict[int, Link]:
        """The links to pods, by the cookies of their network namespaces."""
        return {int(path.name): link for path in _entries(self.directory / "pods") if (link := _link(path))}

    def pod(self, cookie: int) -> Link | None:
        return _link(self._pod(cookie))

    def pin_pod(self, cookie: int, link: Link) -> None:
        link.pin(self._pod(cookie))

    def unpin_pod(self, cookie: int) -> None:
        """Detaches the program, if it is attached."""
        if link := self.pod(cookie):
            link.detach()
        self._pod(cookie).unlink(missing_ok=True)

    def _pod(self, cookie: int) -> Path:
        return self.directory / "pods" / str(cookie)

    def load(self, cgroup: int, program: Object) -> dict[str, Map]:
        """Load the programs, attach them to the cgroup of this descriptor, and pin all. Gives the maps.

        Raises BpfError; what was attached is then as it was, or in part replaced by what does the same.
        """
        self._make_parts()
        old = {name: present for name in program.maps if (present := self.map(name))}
        same = {name for name, present in old.items() if layout_of(present, name) == program.layout(name)}
        if lost := [name for name in KEPT if name in old and name not in same]:
            raise BpfError(f"{self.directory}: map {lost[0]} is of another layout: remove warren first")
        for name in same:
            program.adopt(name, old[name])
        program.load()
        maps = {name: program.map(name) for name in program.maps}
        for name in CARRIED:
            if name in old and name not in same:
                _carry(old[name], maps[name], program.btf, program.value_type(name))
        self._attach(cgroup, program)
        for name in maps.keys() - same:
            maps[name].pin(self.directory / "maps" / name)
        self._complete(program)
        return maps

    def build(self) -> str:
        """The digest of the object file from which all was loaded; empty where that was not completed."""
        return next((path.name for path in _entries(self.directory / "build")), "")

    def lost(self, cgroup: int, program: Object) -> list[str]:
        """Programs that should be attached to the cgroup of this id and are not."""
        links = self.links()
        names = set(program.programs) - {INBOUND}
        return sorted(
            name
            for name in names
            if name not in links or links[name].info().target.cgroup.cgroup_id != cgroup
        )

    def restore(self, cgroup: int, program: Object, maps: dict[str, Map]) -> list[str]:
        """Attach and pin again what somebody took away, of what `load` made; the names of the programs."""
        self._make_parts()
        for name, present in maps.items():
            if not (self.directory / "maps" / name).exists():
                present.pin(self.directory / "maps" / name)
        lost = self.lost(os.fstat(cgroup).st_ino, program)
        if lost:
            self._attach(cgroup, program)
        if self.build() != program.digest:
            self._complete(program)
        return lost

    def _make_parts(self) -> None:
        for part in ("maps", "links", "pods"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)

    def _complete(self, program: Object) -> None:
        for path in _entries(self.directory / "build"):
            path.rmdir()
        (self.directory / "build" / program.digest).mkdir(parents=True)

    def _attach(self, cgroup: int, program: Object) -> None:
        present = self.links()
        names = sorted(set(program.programs) - {INBOUND}, key=lambda name: (name not in _FIRST, name))
        for name in names:
            link = present.pop(name, None)
            here = link is not None and link.info().target.cgroup.cgroup_id == os.fstat(cgroup).st_ino
            if not (link and here and _update(link, program, name)):
                link = Link.create(program.program(name), cgroup, program.attach_type(name))
                link.pin(self.directory / "links" / name)
        for link in self.pods().values():
            _update(link, program, INBOUND)
        for name in present:  # of a version that had one hook more
            (self.directory / "links" / name).unlink()

    def remove(self) -> None:
        """Take everything away: no connection is redirected any more."""
        for path in _entries(self.directory / "build"):
            path.rmdir()
        for part in ("pods", "links", "maps", "build"):
            for path in _entries(self.directory / part):
                path.unlink()
            if (self.directory / part).is_dir():
                (self.directory / part).rmdir()


def _update(link: Link, program: Object, name: str) -> bool:
    """False if the cgroup or network namespace is gone."""
    try:
        link.update(program.program(name))
    except OSError as error:
        if error.errno == errno.ENOLINK:
            return False
        raise
    return True


def _carry(old: Map, new: Map, new_btf: Btf, new_type: int) -> None:
    old_btf = Btf.of_loaded(old.info.btf_id)
    before = {member.name: member for member in old_btf.members(old.info.btf_value_type_id)}
    after = {member.name: member for member in new_btf.members(new_type)}
    if old.info.key_size != new.info.key_size or (not after and old.info.value_size != new.info.value_size):
        raise BpfError(f"map {old.name} is of a layout that cannot be carried over: remove warren first")
    moves = [(was, now) for name, now in after.items() if (was := before.get(name)) and was.size == now.size]
    for key, value in old.items():
        moved = bytearray(new.info.value_size) if after else bytearray(value)
        for was, now in moves:
            moved[now.offset : now.offset + now.size] = value[was.offset : was.offset + was.size]
        new.put(key, bytes(moved))


def _entries(directory: Path) -> Iterable[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else ()


def _link(path: Path) -> Link | None:
    fd = pinned(path)
    return None if fd is None else Link(fd)
