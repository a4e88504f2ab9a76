"""What goes wrong names the place and what helps."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ca import files
from agent.errors import SettingsError, describe, naming
from agent.lab.state import write_atomically
from bpf.maps import pinned


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a device without space."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", tmp_path], check=True)
    with (tmp_path / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 512)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_device_without_space_is_named(full: Path) -> None:
    path = full / "root.pem"
    for write in (write_atomically, files.write_atomically):
        with pytest.raises(OSError, match="No space") as caught:
            write(path, b"x" * 5000, 0o600)
        assert describe(caught.value) == f"{path}: No space left on device; free space there"


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
