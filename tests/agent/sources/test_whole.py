"""A file is read whole or not at all, and who comes to write it waits no longer than that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.sources import whole

TEXT = "x" * 20_000
# Empties the file and writes it anew in parts, again and again.
WRITER = """
import sys
while True:
    with open(sys.argv[1], "w") as file:
        for _ in range(20):
            file.write("x" * 1_000)
            file.flush()
"""
# Reads the file once, as soon as that may be.
READER = """
import sys
from pathlib import Path
from agent.sources import whole
while True:
    try:
        sys.exit(len(whole.read(Path(sys.argv[1]))) != int(sys.argv[2]))
    except OSError:
        pass
"""
LARGE = 256 << 20  # bytes, which take a while to read
REFUSED = "it is being written"


def test_what_somebody_has_open_for_writing_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(TEXT)
    with file.open("a"), pytest.raises(OSError, match=REFUSED):
        whole.read(file)
    with file.open():
        assert whole.read(file).decode() == TEXT


def test_however_reader_and_writer_meet_nothing_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(TEXT)
    read = refused = 0
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)]) as writer:
        while read < 500 or refused < 500:
            assert writer.poll() is None
            try:
                assert len(whole.read(file)) == len(TEXT)
                read += 1
            except OSError as error:
                assert error.strerror == REFUSED
                refused += 1
        writer.kill()


def test_the_kernels_word_that_somebody_wants_to_write_ends_nobody(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.touch()
    os.truncate(file, LARGE)
    with subprocess.Popen([sys.executable, "-c", READER, str(file), str(LARGE)]) as reader:
        while reader.poll() is None:
            file.open("r+b").close()
    assert reader.returncode == 0


def test_where_there_are_no_leases_it_is_read_as_it_is() -> None:
    assert whole.read(Path("/proc/self/comm"))
