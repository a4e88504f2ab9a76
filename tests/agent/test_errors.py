"""What goes wrong names the place and what helps."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.ca import files
from agent.errors import SettingsError, describe, naming
from agent.lab.state import write_atomically
from agent.node import conflist
from agent.xds import certificate
from bpf.maps import pinned

FORMER = b"former\n"
WRITERS = (write_atomically, files.write_atomically, certificate._write, conflist._put)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file on a device on which there is no space for another."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", tmp_path], check=True)
    try:
        path = tmp_path / "root.pem"
        path.write_bytes(FORMER)
        with (tmp_path / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 512)
        yield path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__module__)
def test_a_device_without_space_is_named_and_what_was_written_stays_whole(
    full: Path, write: Callable[[Path, bytes, int], None]
) -> None:
    """The new content is larger than what the former one would leave behind."""
    with pytest.raises(OSError, match="No space") as caught:
        write(full, b"x" * 9000, 0o600)
    assert describe(caught.value) == f"{full}: No space left on device; free space there"
    assert full.read_bytes() == FORMER


def test_what_is_pinned_and_cannot_be_had_is_named(tmp_path: Path) -> None:
    """The kernel gives a file that is no pin the same answer as one that is another's."""
    path = tmp_path / "map"
    path.touch()
    with pytest.raises(PermissionError) as caught:
        pinned(path)
    assert describe(caught.value).startswith(f"{path}: bpf_obj_get: Permission denied; run it as root")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE])
def test_what_helps_is_told(code: int) -> None:
    with pytest.raises(OSError, match=os.strerror(code)) as caught, naming(Path("/a")):
        raise OSError(code, os.strerror(code))
    assert describe(caught.value).startswith(f"/a: {os.strerror(code)}; ")


def test_who_says_where_says_so_still() -> None:
    with pytest.raises(OSError, match="a place") as caught, naming(Path("/a")):
        raise OSError(errno.ENOENT, "not there", "/a place")
    assert describe(caught.value) == "/a place: not there"
    assert describe(SettingsError("as it stands")) == "as it stands"
