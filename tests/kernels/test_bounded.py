"""A test that hangs fails under its name."""

import subprocess
import sys
from pathlib import Path

TESTS = """
import threading

import pytest

def test_hangs():
    threading.Event().wait()

@pytest.fixture
def stuck():
    yield
    threading.Event().wait()

def test_ends_badly(stuck):
    pass

def test_is_good():
    pass
"""


def test_what_hangs_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    plugin = ["-p", "tests.kernels.bounded", "--bound=0.5", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugin, f"--rootdir={tmp_path}", str(tmp_path), "-ra"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "test_some.py::test_hangs: call is not done after 0.5 s" in said
    assert "test_some.py::test_ends_badly: teardown is not done after 0.5 s" in said
    assert "1 failed, 2 passed, 1 error" in said
    assert "most recent call first" in said, "where each thread was"
